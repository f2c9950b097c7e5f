"""A task of two inputs, a free length and two outputs through whole trials and a study."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import optuna
import pytest
import torch

from nas_compress.callbacks import no_progress
from nas_compress.config.study_file import read_study
from nas_compress.devices.onnx_session import file_signature
from nas_compress.errors import RequestError
from nas_compress.measurement.predictions import predict
from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_baseline, read_records
from nas_compress.search.run import run_study
from nas_compress.search.setup import find_teacher, gather, make_context
from nas_compress.search.storage.optuna_storage import open_storage
from nas_compress.tasks.batch import to_arrays
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics.row import Metric
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.teaching import LossTerm
from running import own_cache, write_study  # noqa: F401

MODULE = '''
import numpy as np
import torch
from torch import nn

from nas_compress.tasks.export_tolerance import Agreement, require_agreement
from nas_compress.search.storage.optuna_storage import open_storage
from nas_compress.tasks.batch import largest_difference
from nas_compress.tasks.task import Task
from nas_compress.values.signature import Signature, TensorSpec

LENGTH = 5


class Tracks(Task):
    """Total and steps of a sequence, each scaled by a mean of factors."""

    name, metrics = "tracks", ("error", "error_of_steps")
    signature = Signature(
        inputs=(
            TensorSpec(name="factors", dtype="float32", shape=("N", 4)),
            TensorSpec(name="sequence", dtype="float32", shape=("N", "length", 3)),
        ),
        outputs=(
            TensorSpec(name="total", dtype="float32", shape=("N", 1)),
            TensorSpec(name="steps", dtype="float32", shape=("N", "length", 1)),
        ),
    )
    targets = signature.outputs

    def base_loss(self, outputs, targets):
        return sum((outputs[name] - targets[name]).square().mean() for name in outputs)

    def measure(self, outputs, targets):
        errors = {name: float(np.abs(outputs[name] - targets[name]).mean()) for name in outputs}
        return {"error": (errors["total"] + errors["steps"]) / 2, "error_of_steps": errors["steps"]}

    def chance(self, metric):
        return None

    def agreement(self, found, expected, *, rounding, name):
        result = Agreement(agreement=1.0, max_difference=largest_difference(found, expected))
        require_agreement(result, agreement=1.0, difference=1e-4, name=name)
        return result


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.read = nn.Linear(4, 32), nn.Linear(3, 32)
        self.hidden, self.total, self.steps = nn.Linear(32, 24), nn.Linear(24, 1), nn.Linear(24, 1)

    def forward(self, factors, sequence):
        values = torch.relu(self.read(sequence) + self.mix(factors).unsqueeze(1))
        values = torch.relu(self.hidden(values))
        return self.total(values.mean(dim=1)), self.steps(values)


def split(samples):
    generator = np.random.default_rng(samples)
    factors = generator.normal(size=(samples, 4)).astype("float32")
    sequence = generator.normal(size=(samples, LENGTH, 3)).astype("float32")
    steps = sequence.sum(axis=2, keepdims=True) + factors.mean(axis=1)[:, None, None]
    return {"factors": factors, "sequence": sequence}, {"total": steps.mean(axis=1), "steps": steps}


def load():
    return {"task": Tracks(), "train": split(300), "test": split(40)}
'''

SPACE = '''"""Ratios and bits of the module."""
from nas_compress.values.candidate import Candidate, LossTerm


def suggest(trial):
    """Propose a cut."""
    ratio = trial.suggest_categorical("pruning_ratio", [0.25, 0.5])
    bits = trial.suggest_categorical("weight_bits", [32, 8])
    return Candidate(family="pruned", depths=(), pruning_ratio=ratio, pruning_criterion="taylor", weight_bits=bits,
                     round_to=4, losses=(LossTerm(name="task_loss"),))
'''

ERRORS = [
    Metric(
        name=name,
        summary="mean absolute error",
        direction="minimize",
        label="error",
        axis_label="mean absolute error",
        notation="plain",
    )
    for name in ("error", "error_of_steps")
]

CHANGES = (
    ('name = "tiny"\n', 'name = "tiny"\nobjectives = ["error", "size_bytes", "latency_ms"]\n'),
    ('name = "digits"\ntrain_samples = 200\n', 'factory = "tracks:load"\n'),
    ("widths = [8, 16, 16]\n", 'factory = "tracks:Net"\nweights = "net.pt"\n'),
    ("[training]\nepochs = 1\n", "[training]\nepochs = 8\n"),
)


@pytest.fixture(autouse=True)
def _metric(monkeypatch: pytest.MonkeyPatch) -> None:
    for metric in ERRORS:
        monkeypatch.setitem(METRICS, metric.name, metric)  # type: ignore[arg-type]


def load_study(folder: RunFolder) -> optuna.Study:
    return optuna.load_study(study_name="tiny", storage=open_storage(None, folder.journal))


def written(folder: Path, *changes: tuple[str, str], extra: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tracks.py").write_text(MODULE)
    names: dict[str, object] = {}
    exec(MODULE, names)
    torch.manual_seed(0)
    torch.save(names["Net"]().state_dict(), folder / "net.pt")  # type: ignore[operator]
    return write_study(folder, *CHANGES, *changes, space=SPACE, extra=extra)


@pytest.fixture
def context(tmp_path: Path) -> TrialContext:
    parts = gather(read_study(written(tmp_path / "study")))
    return make_context(parts, find_teacher(parts, no_progress))


@pytest.mark.parametrize("weight_bits", [32, 8])
def test_a_trial_trains_exports_and_measures(context: TrialContext, tmp_path: Path, weight_bits: int) -> None:
    candidate = Candidate(
        family="pruned",
        depths=(),
        pruning_ratio=0.5,
        pruning_criterion="l1",
        weight_bits=weight_bits,
        round_to=4,
        losses=(LossTerm(name="task_loss"),),
    )
    path = tmp_path / "model.onnx"
    outcome = run_trial(candidate, context, seed=0, model=path)
    assert outcome.state == "trained", outcome.reason
    task, validation = context.dataset.task, context.dataset.validation
    assert file_signature(path) == task.signature
    measured = outcome.measured
    assert measured is not None and measured.figures["size_bytes"] == path.stat().st_size
    found = predict(path, to_arrays(validation.inputs))
    assert measured.figures["error"] == task.measure(found, to_arrays(validation.targets))["error"]
    untrained = task.measure({name: np.zeros_like(found[name]) for name in found}, to_arrays(validation.targets))
    assert measured.figures["error"] < untrained["error"] / 2
    assert outcome.curve[0][1] > outcome.curve[-1][1]
    assert list(outcome.losses) == ["task_loss"]


def test_a_study_finds_a_front_and_bundles_it(tmp_path: Path) -> None:
    front = run_study(written(tmp_path / "study"), out=tmp_path / "run", trials=2)
    folder = RunFolder(root=tmp_path / "run")
    assert folder.about()["classes"] is None and folder.chance() == {}
    records, teacher = read_records(folder), read_baseline(folder)
    assert [record.outcome.state for record in records] == ["trained", "trained"]
    assert front.members and "error" in front.columns
    assert teacher is not None and dict(front.reference or ()).keys() == {"error", "size_bytes", "latency_ms"}
    assert all(record.outcome.measured.figures["error"] < teacher.figures["error"] for record in records)
    for record in records:
        out = tmp_path / "bundles" / str(record.trial)
        export_bundle(folder, record.trial, out)
        printed = subprocess.run(
            [sys.executable, out / "example.py"], capture_output=True, text=True, check=True, cwd=tmp_path
        ).stdout.splitlines()
        session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
        zeros = {"factors": np.zeros((1, 4), "float32"), "sequence": np.zeros((1, 1, 3), "float32")}
        expected = zip(("total", "steps"), session.run(["total", "steps"], zeros), strict=True)
        assert printed == [f"{name} {values[0].round(2).tolist()}" for name, values in expected]
        card = (out / "README.md").read_text()
        assert "`sequence`: `float32 (N, length, 3)`" in card and "| error |" in card
        metrics = json.loads((out / "metrics.json").read_text())
        assert metrics["measured"]["error"] == record.outcome.measured.figures["error"]


@pytest.mark.parametrize(
    "sampler", ["ehvi", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tpe", "nsga2", "gp"))]
)
def test_untrained_trials_are_told_the_worst_value_of_a_metric_without_chance_level(
    sampler: str, tmp_path: Path
) -> None:
    study = written(
        tmp_path / "study",
        ('sampler = "random"', f'sampler = "{sampler}"\nstartup_trials = 1'),
        extra="[budgets.parameters]\nat_most = 500\n[budgets.error]\nat_most = 100.0\n",
    )
    run_study(study, out=tmp_path / "run", trials=4)
    folder = RunFolder(root=tmp_path / "run")
    told = {trial.number: trial for trial in load_study(folder).trials}
    untrained = [record for record in read_records(folder) if record.outcome.state == "over_budget"]
    assert 0 < len(untrained) < 4
    for record in untrained:
        assert told[record.trial].values[0] == float("inf")
        assert told[record.trial].constraints["error <= 100"] == 1.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'objectives = ["error", ',
            'objectives = ["accuracy", ',
            "objectives must be metrics of the task tracks (error, error_of_steps) or known before training, "
            "but got accuracy",
        ),
        ("[search]", "[budgets.accuracy]\nat_least = 0.9\n[search]", "budgets must be metrics of the task tracks"),
        (
            "[search]",
            '[search]\nreward = {kind = "soft", figure = "size_bytes", target = 1000.0}',
            "search.reward must be metrics of the task tracks",
        ),
    ],
)
def test_metrics_of_other_tasks_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        gather(read_study(written(tmp_path, (old, new))))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_stopping_rule_needs_the_primary_metric(tmp_path: Path) -> None:
    study = written(
        tmp_path,
        ('objectives = ["error", ', 'objectives = ["error_of_steps", '),
        ('sampler = "random"', 'sampler = "random"\nstop = "behind"'),
    )
    with pytest.raises(RequestError, match=r"search\.stop needs the primary metric of the task tracks, error, as"):
        gather(read_study(study))


def test_a_family_of_images_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    study = written(tmp_path, ('factory = "tracks:Net"\nweights = "net.pt"\n', 'family = "resnet"\n'))
    with pytest.raises(RequestError, match=r"task's inputs and outputs, factors .* fitting families: pruned") as caught:
        gather(read_study(study))
    assert "study.toml: teacher.family" in str(caught.value) and "\n" not in str(caught.value)


def test_a_candidate_of_a_family_of_images_is_refused_by_its_rules(context: TrialContext, tmp_path: Path) -> None:
    candidate = Candidate(family="resnet", depths=(1, 1, 1), losses=(LossTerm(name="task_loss"),))
    with pytest.raises(RequestError, match=r"but got 'resnet'; fitting families: pruned"):
        run_trial(candidate, context, seed=0, model=tmp_path / "model.onnx")
