"""Several tasks of one network, from a study file to the exported bundle."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_compress.config.schema import TrainingSection
from nas_compress.config.study_file import read_study
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.several_tasks.parts import TaskChoice
from nas_compress.errors import RequestError
from nas_compress.measurement.predictions import predict
from nas_compress.models.macs import count_macs
from nas_compress.report.page import report_page
from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from nas_compress.search.setup import gather
from nas_compress.tasks.batch import named_outputs, to_arrays
from nas_compress.tasks.several import SeveralTasks
from nas_compress.teacher.derived import of_single_tasks
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate, LossTerm, Teaching
from running import own_cache as own_cache
from running import write_study
from teachers import small_teacher_in

TASKS = """
[tasks.digit]
labels = "label"
metric = "accuracy"
[tasks.parity]
metric = "accuracy"
[tasks.ink]
metric = "r2"
"""

CHANGES = (("trials = 3\n", 'trials = 2\nobjectives = ["mean_score", "size_bytes"]\n'),)

SPACE = '''"""Teachers of all tasks, and of each."""
from nas_compress.values.candidate import Candidate, LossTerm, Teaching


def suggest(trial):
    """Propose a way of teaching."""
    teacher = trial.suggest_categorical("teacher", ["fixed", "single_tasks"])
    losses = (LossTerm(name="task_loss"), LossTerm(name="kd", settings={"temperature": 1.0}))
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5, losses=losses,
                     teaching=Teaching(teacher=teacher, annealing=True))
'''

BAM = (LossTerm(name="task_loss"), LossTerm(name="kd", settings={"temperature": 1.0}))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(
        name="digits",
        shift=0,
        train_samples=200,
        tasks=[
            TaskChoice(name="digit", labels="label", metric="accuracy"),
            TaskChoice(name="parity", labels="parity", metric="accuracy"),
            TaskChoice(name="ink", labels="ink", metric="r2"),
        ],
    )


@pytest.fixture(scope="module")
def several(context: TrialContext, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    section = TeacherSection(widths=(8, 16, 16), epochs=2, learning_rate=1e-2)
    teacher = small_teacher_in(tmp_path_factory.mktemp("several"), section, dataset)
    return replace(
        context,
        dataset=dataset,
        teacher=teacher,
        teacher_macs=count_macs(teacher.network, dataset.train.first(1).inputs),
        training=TrainingSection(epochs=1, batch_size=20, learning_rate=1e-2),
    )


def test_a_study_of_three_tasks_ends_in_a_file_with_an_output_of_each(tmp_path: Path) -> None:
    run_study(write_study(tmp_path / "study", *CHANGES, space=SPACE, extra=TASKS), out=tmp_path / "run")
    folder = RunFolder(root=tmp_path / "run")
    records = read_records(folder)
    assert [record.outcome.state for record in records] == ["trained"] * 2, [each.outcome.reason for each in records]
    for record in records:
        assert record.outcome.measured is not None
        assert {"mean_score", "accuracy@digit", "r2@ink"} <= record.outcome.measured.figures.keys()
    assert "accuracy of parity" in report_page(folder)
    out = tmp_path / "bundle"
    export_bundle(folder, records[0].trial, out)
    printed = subprocess.run(
        [sys.executable, out / "example.py"], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    assert [line.split()[0] for line in printed.splitlines()] == ["logits_digit", "logits_parity", "values_ink"]


def resnet(**teaching: object) -> Candidate:
    return Candidate(
        family="resnet",
        depths=(1, 1, 1),
        width_multiplier=0.25,
        losses=BAM,
        teaching=Teaching(**teaching),  # type: ignore[arg-type]
    )


PRUNED = Candidate(
    family="resnet", depths=(1, 1, 1), pruning_ratio=0.5, pruning_criterion="l1", losses=BAM, weight_bits=8,
    activation_bits=8,
)  # fmt: skip


@pytest.mark.parametrize(
    "candidate",
    [
        pytest.param(PRUNED, id="pruned"),
        pytest.param(resnet(teacher="single_tasks", annealing=True), id="single"),
        pytest.param(Candidate(family="mlp", depths=(1,), losses=BAM), id="mlp"),
        pytest.param(resnet(), id="resnet", marks=pytest.mark.slow),
        pytest.param(
            Candidate(family="mobilenet", depths=(1, 1, 1), width_multiplier=0.25, losses=BAM, weight_bits=4),
            id="mobilenet",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            Candidate(family="vit", depths=(1,), losses=(LossTerm(name="task_loss"),)), id="vit", marks=pytest.mark.slow
        ),
        pytest.param(resnet(teacher="born_again"), id="born_again", marks=pytest.mark.slow),
        pytest.param(resnet(teacher="mutual"), id="mutual", marks=pytest.mark.slow),
        pytest.param(resnet(teacher="ensemble", members=2), id="ensemble", marks=pytest.mark.slow),
    ],
)
def test_families_and_teachings_train_several_tasks(
    candidate: Candidate, several: TrialContext, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    outcome = run_trial(candidate, several, seed=0, model=path)
    assert outcome.state == "trained", outcome.reason
    task, validation = several.dataset.task, several.dataset.validation
    found = predict(path, to_arrays(validation.inputs))
    assert list(found) == ["logits_digit", "logits_parity", "values_ink"]
    assert outcome.measured is not None
    assert outcome.measured.figures["accuracy@parity"] == task.measure(found, to_arrays(validation.targets))[
        "accuracy@parity"
    ]  # fmt: skip


def test_each_task_is_answered_by_a_network_of_its_own(several: TrialContext) -> None:
    teacher = replace(several.teacher)  # one that remembers nothing of other tests
    answers, task = of_single_tasks(teacher), several.dataset.task
    assert isinstance(task, SeveralTasks) and answers.shape == (1, 200, 3, 10)
    made = dict(zip(["digit", "parity", "ink"], teacher.derived.values(), strict=True))
    network, samples = made["parity"].network, several.dataset.train
    with torch.no_grad():
        outputs = named_outputs(network(*samples.inputs.values()), ["logits"])
    row = task.row_of("parity", outputs)
    np.testing.assert_allclose(
        answers[0, :, 1, :2].float().diff(dim=1), row[:, :2].diff(dim=1), atol=2e-2 * float(row.abs().max())
    )
    assert of_single_tasks(teacher) is answers


def test_a_teacher_for_each_task_needs_several_tasks(context: TrialContext) -> None:
    candidate = Candidate(
        family="resnet", depths=(1, 1, 1), losses=(LossTerm(name="kd"),), teaching=Teaching(teacher="single_tasks")
    )
    with pytest.raises(RequestError, match=r"needs several tasks \(\[tasks\.NAME\]\), but the task is image_class"):
        candidate_rules(context, seed=0).require(candidate)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('labels = "label"\n', 'labels = "lable"\n', r"labels of a task must be .*'lable' .*did you mean 'label'"),
        ('metric = "r2"', 'metric = "accuracy"', r"a metric of its kind, such as r2, .* 'accuracy' .*tasks.ink.metric"),
        ('[tasks.ink]\nmetric = "r2"', "[tasks.ink]", "tasks.ink.metric must be given"),
        ("[tasks.ink]", "[tasks.In-k]", "a task must have a name of small letters"),
        ("[tasks.ink]", "[tasks.ink]\nlable = 1", "but got tasks.ink.lable; did you mean 'labels'"),
    ],
)
def test_tasks_that_cannot_be_measured_are_refused_in_one_line(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    assert old in TASKS
    study = write_study(tmp_path / "study", *CHANGES, space=SPACE, extra=TASKS.replace(old, new))
    with pytest.raises(RequestError, match=message) as caught:
        gather(read_study(study))
    assert "\n" not in str(caught.value)


def test_few_labels_need_two_of_each_class_of_each_task(tmp_path: Path) -> None:
    (tmp_path / "rare_task.py").write_text(
        """
import numpy as np

def load():
    number = np.arange(60)
    split = (np.arange(240, dtype="float32").reshape(60, 4), {"often": number % 3, "rare": (number < 4).astype(int)})
    return {"train": split, "validation": split, "test": split}
"""
    )
    choices = [TaskChoice(name=name, labels=name, metric="accuracy") for name in ("often", "rare")]
    where = "study.toml: data.factory"
    with pytest.raises(RequestError, match=r"2 of each class of task rare, but got labels=6 .*; keep more") as caught:
        load_dataset(factory="rare_task:load", folder=tmp_path, tasks=choices, labels=6, where=where)
    assert str(caught.value).endswith("(study.toml: data.labels)")
    few = load_dataset(factory="rare_task:load", folder=tmp_path, tasks=choices[:1], labels=6, where=where)
    kept = few.train.targets["label_often"]
    assert sorted(kept[kept >= 0].tolist()) == [0, 0, 1, 1, 2, 2]


def test_a_function_names_the_labels_of_each_task(tmp_path: Path) -> None:
    (tmp_path / "two_tasks.py").write_text(
        """
import numpy as np

def split(samples, seed):
    rows = np.random.default_rng(seed).normal(size=(samples, 4)).astype("float32")
    return rows, {"side": (rows[:, 0] > 0).astype(int), "total": rows.sum(axis=1).astype("float64")}

def load():
    return {"train": split(60, 0), "test": split(12, 1), "unlabelled": split(20, 2)[0]}
"""
    )
    choices = [
        TaskChoice(name="side", labels="side", metric="accuracy"), TaskChoice(name="sum", labels="total", metric="r2")
    ]  # fmt: skip
    data = load_dataset(factory="two_tasks:load", folder=tmp_path, tasks=choices, labels=20, where="study.toml: data.x")
    assert (len(data.train), len(data.validation), data.labelled_samples) == (51 + 20, 9, 20)
    assert data.task.metrics[:2] == ("mean_score", "accuracy@side")
    numbers = data.train.targets["targets_sum"][:, 0]
    assert torch.equal(numbers.isnan(), data.train.targets["label_side"] < 0)
