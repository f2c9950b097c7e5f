"""Every example runs as its README says, with fewer trials."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas_compress.models.families import FAMILIES
from nas_compress.search.run import run_study
from running import quick_and_apart, write_study

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[Path]:
    with quick_and_apart() as patch:
        patch.chdir(tmp_path)
        yield tmp_path


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, its teachers trained."""
    folder = tmp_path_factory.mktemp("examples") / "own"
    shutil.copytree(EXAMPLES / "own", folder)
    subprocess.run([sys.executable, "train_teachers.py"], cwd=folder, check=True, env={**os.environ})
    return folder


@pytest.mark.parametrize(
    "name",
    [
        name if name == "objects" else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(path.stem for path in (EXAMPLES / "own").glob("*.toml"))
    ],
)
def test_ones_own_model_and_data(name: str, own: Path, here: Path) -> None:
    front = run_study(own / f"{name}.toml", trials=1)
    assert front.teacher is not None
    assert front.teacher.figures["accuracy"] > 0.6, "the teacher's weights must have been loaded"
    (point,) = front.points
    assert (here / "runs" / f"own-{name}" / point.model).is_file()


def test_a_study_from_python_with_a_watcher_of_ones_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(here / "study")
    monkeypatch.setattr(sys, "argv", ["from_python.py", "study", "2"])
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        runpy.run_path(str(EXAMPLES / "from_python.py"), run_name="__main__")
    lines = told.getvalue()
    assert "said: study tiny: 2 trials" in lines
    assert "trial 1: trained, front of" in lines
    assert "the balanced choice: trial" in lines
    assert "Optuna's own front: [" in lines
    assert "values_accuracy" in lines


def run_example(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(here / "study")
    monkeypatch.setattr(sys, "argv", [name, "study", "1"])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.filterwarnings("ignore")  # of packages that this project does not install
def test_a_reporter_for_tensorboard(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    run_example("tensorboard_reporter.py", here, monkeypatch)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(here / "runs" / "tensorboard")).Reload()
    assert {"trial/accuracy", "trial/latency_ms", "front/members"} <= set(events.Tags()["scalars"])
    (accuracy,) = events.Scalars("trial/accuracy")
    assert 0 < accuracy.value <= 1


@pytest.mark.filterwarnings("ignore")  # of packages that this project does not install
def test_a_reporter_for_mlflow(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri((here / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run_example("mlflow_reporter.py", here, monkeypatch)
    experiment = mlflow.get_experiment_by_name("study")
    (run,) = mlflow.MlflowClient().search_runs([experiment.experiment_id])
    assert 0 < run.data.metrics["accuracy"] <= 1 and run.data.metrics["front members"] == 1
    assert run.data.params["family"] in FAMILIES and run.data.tags["state"] == "trained"


def test_the_readme_names_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text()
    for path in [*(EXAMPLES / "own").glob("*.toml"), *EXAMPLES.glob("*.py")]:
        assert path.relative_to(EXAMPLES).as_posix() in text
