"""A metric of the user is an objective, a budget, a column and an axis; reading a run never loads its code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_compress.config.schema import StudySpec
from nas_compress.config.study_file import parse_spec, read_study
from nas_compress.config.user_code_files import named_code
from nas_compress.errors import RequestError
from nas_compress.files import read_json
from nas_compress.measurement.own_metrics import with_own_metrics
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_baseline, read_records
from nas_compress.runs.results import read_front
from nas_compress.search.run import run_study
from nas_compress.tasks.classification import Classification
from nas_compress.values.metrics.table import METRICS, Objective, declare_metrics
from nas_compress.values.signature import TensorSpec
from running import Command, command_in, quick_and_apart

CODE = """import numpy as np

def score(answers, targets):
    return (answers.argmax(axis=1) == targets).mean() * 100 - 50

def nan(answers, targets):
    return float("nan")

def raises(answers, targets):
    raise KeyError("no\\nsuch")

def random(answers, targets):
    return np.random.default_rng().random()

def writes(answers, targets):
    answers[:] = 0
    return 1.0

def text(answers, targets):
    return "high"
"""

DATA = """import numpy as np

def load():
    labels = np.arange(120) % 3
    rows = np.random.default_rng(0).normal(size=(120, 6)).astype("float32")
    rows[np.arange(120), labels] += 4
    return {"train": (rows[:90], labels[:90]), "test": (rows[90:], labels[90:])}
"""

SPACE = '''"""One student."""
from nas_compress.values.candidate import Candidate

def suggest(trial):
    width = trial.suggest_categorical("width", [0.25, 0.5])
    return Candidate(family="mlp", depths=(1,), width_multiplier=width)
'''

STUDY = """
name = "scored"
space = "own_space.py"
trials = 2
objectives = ["points", "size_bytes"]
[data]
factory = "score_data:load"
[teacher]
family = "mlp"
widths = [16]
depths = [1]
epochs = 4
learning_rate = 0.02
[training]
epochs = 1
batch_size = 20
[search]
sampler = "random"
stop = "none"
[metrics]
points = { function = "score_code:score", direction = "maximize", label = "points won" }
[budgets]
points = { loss_at_most = 500 }
size_bytes = { fraction_at_most = 3 }
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished run `run/` of the study."""
    folder = tmp_path_factory.mktemp("scored")
    for name, text in {
        "score_code.py": CODE,
        "score_data.py": DATA,
        "own_space.py": SPACE,
        "study.toml": STUDY,
    }.items():
        (folder / name).write_text(text)
    with quick_and_apart():
        run_study(folder, out=folder / "run")
    return folder


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command_in(monkeypatch, capfd)


def test_every_file_has_its_figure_and_the_budgets_follow_the_teacher(home: Path) -> None:
    folder = RunFolder(root=home / "run")
    teacher, front = read_baseline(folder), read_front(folder)
    assert teacher is not None and teacher.figure("points") == pytest.approx(100 * teacher.figure("accuracy") - 50)
    measured = [record.outcome.measured for record in read_records(folder)]
    for each in measured:
        assert each is not None and each.figure("points") == pytest.approx(100 * each.figure("accuracy") - 50)
    assert [objective.direction for objective in front.objectives] == ["maximize", "minimize"]
    limits = {budget.name: budget.limit for budget in front.budgets}
    assert limits["points"] == pytest.approx(teacher.figure("points") - 500)
    assert limits["size_bytes"] == pytest.approx(3 * teacher.figure("size_bytes"))
    assert "points" in (home / "run" / "front.csv").read_text().splitlines()[0].split(",")
    log = (home / "run" / "run.log").read_text()
    assert "budgets against the teacher: points >= " in log
    assert "loads score_code.py (score_code:score)" in log


def test_reading_a_run_shows_it_without_its_code(home: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "score_code", None)  # an import would raise an error
    (home / "score_code.py").rename(home / "away.txt")
    try:
        status = command("status", home / "run")
        assert status.code == 0 and "budget: points >= " in status.out and "the teacher's" in status.out
        shown = command("show", home / "run", "--best", "points", "--where", "points>=-50")
        assert shown.code == 0 and "points" in shown.out
        assert command("report", home / "run", "--out", home / "page.html").code == 0
        assert "points won" in (home / "page.html").read_text()
        assert command("plot", home / "run", "--out", home / "front.svg").code == 0
    finally:
        (home / "away.txt").rename(home / "score_code.py")


def test_another_text_of_the_function_is_another_study(home: Path, command: Command) -> None:
    (home / "score_code.py").write_text(CODE + "\n# changed\n")
    try:
        answer = command("run", home, "--out", home / "run", "--trials", "3")
        assert answer.code == 2 and "metrics (their text)" in answer.err
    finally:
        (home / "score_code.py").write_text(CODE)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nan", "on the teacher's answers, metric points must be a finite number, but its function returned nan"),
        ("raises", "but its function raised KeyError: 'no\\nsuch'"),
        ("random", "a metric must be the same for the same answers, but got 0."),
        ("writes", "a metric must not change its arguments, but it wrote to them"),
        ("text", "but its function raised ValueError: could not convert string to float"),
        ("scor", "it has no 'scor'; did you mean 'score'?"),
    ],
)
def test_a_function_without_a_sound_number_is_refused_before_the_first_trial(
    home: Path, tmp_path: Path, function: str, message: str
) -> None:
    text = STUDY.replace("score_code:score", f"score_code:{function}").replace("epochs = 4", "epochs = 1")
    (home / "wrong.toml").write_text(text)
    with quick_and_apart(), pytest.raises(RequestError) as caught:
        run_study(home / "wrong.toml", out=tmp_path / "run")
    assert message in str(caught.value) and "metrics.points" in str(caught.value) and "\n" not in str(caught.value)
    assert not list((tmp_path / "run").glob("trials/*"))


def test_a_budget_out_of_reach_is_refused_once_the_teacher_is_measured(home: Path, tmp_path: Path) -> None:
    (home / "strict.toml").write_text(STUDY.replace("fraction_at_most = 3", "fraction_at_most = 0.001"))
    with (
        quick_and_apart(),
        pytest.raises(RequestError, match=r"within reach of the space, but strict.toml: budgets.size"),
    ):
        run_study(home / "strict.toml", out=tmp_path / "run")
    assert not list((tmp_path / "run").glob("trials/*"))


def spec(metrics: dict[str, Any], **others: Any) -> StudySpec:
    return parse_spec({"name": "m", "space": "cnn", "data": {"name": "digits"}, "metrics": metrics, **others}, "s.toml")


GOOD = {"function": "module:callable", "direction": "minimize"}


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"gain": "module:score"}, "metrics.gain: a metric must be { function = "),
        ({"gain": {"function": "module:score"}}, "metrics.gain: direction must be given with a function only"),
        ({"gain": {"recall_of": "1", "direction": "maximize"}}, "direction must be given with a function only"),
        (
            {"gain": {"recall_of": "1", "f1_of": "2"}},
            "must have one of function, recall_of and f1_of, but got ['recall_of'",
        ),
        ({"gain": {**GOOD, "direction": "up"}}, "but got metrics.gain.direction='up'"),
        ({"gain": {**GOOD, "function": "score"}}, "but got metrics.gain.function='score'"),
        ({"accuracy": GOOD}, "'accuracy' is a built-in column"),
        ({"agreement": GOOD}, "'agreement' is a built-in column"),
        ({"My score": GOOD}, "a name of small letters"),
    ],
)
def test_a_bad_row_is_one_line(metrics: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        spec(metrics)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_recall_and_f1_of_one_class_need_no_code() -> None:
    # class 2: samples 1, 2 and 4; answered for 1, 3 and 4
    labels, answers = np.array([0, 2, 2, 1, 2]), np.array([0, 2, 1, 2, 2])
    made = spec({"found": {"recall_of": "eel"}, "both": {"f1_of": "eel", "label": "F1 of eels"}})
    row = TensorSpec(name="input", dtype="float32", shape=("N", 4))
    words = Classification(inputs=(row,), classes=3, class_names=("cat", "dog", "eel"))
    task = with_own_metrics(words, made.metrics, folder=Path(), label="s.toml").measuring(["both", "accuracy"])
    figures = task.measure({"logits": np.eye(3, dtype=np.float32)[answers]}, {"label": labels})
    assert figures == pytest.approx({"both": 2 / 3, "accuracy": 3 / 5, "found": 2 / 3})
    assert METRICS["both"].shown(figures["both"]) == "66.67 %" and made.metric_functions == ()
    with pytest.raises(RequestError, match=r"a class must be a known name, but got 'ell' \(s.toml: metrics.x\).*'eel'"):
        with_own_metrics(words, spec({"x": {"recall_of": "ell"}}).metrics, folder=Path(), label="s.toml")


def test_a_name_has_one_direction_in_a_process() -> None:
    spec({"drift": GOOD}, objectives=["drift", "size_bytes"])
    spec({"drift": GOOD})
    assert Objective(name="drift").cost(2.0) == 2.0 and METRICS["drift"].own
    with pytest.raises(RequestError, match="a metric must have one direction in a process, but got drift to maximize"):
        spec({"drift": {**GOOD, "direction": "maximize"}})
    with pytest.raises(RequestError, match="accuracy"):
        declare_metrics([METRICS["drift"].__class__(**{**vars(METRICS["drift"]), "name": "accuracy"})])


def test_code_is_named_and_bundles_ask_for_it(home: Path) -> None:
    names = [code.reference for code in named_code(read_study(home))]
    assert names == ["suggest", "score_data:load", "score_code:score"]
    assert read_json(home / "run" / "run.json")["study"]["metrics"]["points"]["function"] == "score_code:score"
