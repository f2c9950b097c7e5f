"""An exported bundle stands alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError
from nas_compress.export.xz_container import compress
from nas_compress.runs.bundle import export_bundle, trained_record
from nas_compress.runs.checks.model_files import digests_of_trial
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_record, read_records, write_record
from nas_compress.search.run import default_folder, run_study
from running import own_cache as own_cache
from running import quick_and_apart, write_study

BUDGET = "[budgets.size_bytes]\nat_most = 60000\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("study")
    with quick_and_apart():
        run_study(write_study(folder, extra=BUDGET), out=folder / "run", trials=5)
    return RunFolder(root=folder / "run")


@pytest.fixture
def trial(run: RunFolder) -> int:
    return next(record.trial for record in read_records(run) if record.outcome.state == "trained")


@pytest.fixture
def bundle(run: RunFolder, trial: int, tmp_path: Path) -> Path:
    export_bundle(run, trial, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_bundle_holds_six_files_and_the_recorded_figures(bundle: Path, run: RunFolder, trial: int) -> None:
    assert {path.name for path in bundle.iterdir()} == {
        "model.onnx",
        "config.json",
        "metrics.json",
        "README.md",
        "example.py",
        "required_operators.config",
    }
    record = trained_record(run, trial)
    assert (bundle / "model.onnx").read_bytes() == (run.root / record.model).read_bytes()
    metrics, config = (json.loads((bundle / name).read_text()) for name in ("metrics.json", "config.json"))
    assert metrics["measured"] == json.loads(json.dumps(record.outcome.to_dict()["measured"]))
    assert config["candidate"] == record.outcome.candidate.to_dict()
    assert config["study"]["name"] == "tiny"
    assert config["seed"] == record.outcome.seed
    assert {"torch", "onnxruntime", "python"} <= config["versions"].keys()


def test_the_card_tells_the_figures_and_prints_the_example(bundle: Path, run: RunFolder, trial: int) -> None:
    card, measured = (bundle / "README.md").read_text(), trained_record(run, trial).outcome.measured
    assert measured is not None
    assert "accuracy" in measured.figures
    for shown in (
        f"{measured.figures['accuracy']:.4f}",
        f"{measured.figures['size_bytes']:,}",
        f"{measured.figures['latency_ms']:.4f}",
    ):
        assert shown in card
    assert "Augmentation of training samples: `shift 1`." in card
    code = card.split("```python\n")[1].split("```")[0]
    assert code == (bundle / "example.py").read_text()
    assert len(code.splitlines()) <= 11


def test_the_model_takes_raw_samples_in_any_number(bundle: Path) -> None:
    session = onnxruntime.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
    (given,), (told,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("input", "tensor(uint8)", [1, 8, 8])
    assert (told.name, told.type, told.shape[1:]) == ("logits", "tensor(float)", [10])
    assert isinstance(given.shape[0], str)


def test_the_example_runs_from_anywhere(bundle: Path) -> None:
    answer = subprocess.run([sys.executable, bundle / "example.py"], capture_output=True, text=True, cwd="/")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("class ")
    assert "torch" not in (bundle / "example.py").read_text()


@pytest.mark.slow
def test_the_example_needs_onnxruntime_and_numpy_only(bundle: Path, tmp_path: Path) -> None:
    python = tmp_path / "fresh" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "fresh"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "onnxruntime", "numpy"], check=True)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    answer = subprocess.run([python, bundle / "example.py"], capture_output=True, text=True, env=clean)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("class ")


def test_the_config_trains_the_same_file_again(bundle: Path, tmp_path: Path) -> None:
    front = run_study(bundle / "config.json")
    (again,) = (tmp_path / "runs").iterdir()
    assert again.name.startswith("tiny-") and again.name.count("-") == 1
    assert default_folder(read_study(bundle / "config.json")) == Path("runs") / again.name
    assert len(front.points) == 1
    assert (again / "trials" / "0" / "model.onnx").read_bytes() == (bundle / "model.onnx").read_bytes()


def test_a_compressed_file_is_opened_by_the_example(run: RunFolder, trial: int, tmp_path: Path) -> None:
    compressed = RunFolder(root=shutil.copytree(run.root, tmp_path / "run"))
    record = read_record(compressed, trial)
    assert record is not None
    content = (compressed.root / record.model).read_bytes()
    (compressed.root / f"{record.model}.xz").write_bytes(compress(content))
    name = f"{record.model}.xz"
    write_record(compressed, replace(record, model=name, files=digests_of_trial(compressed, name)))
    export_bundle(compressed, trial, tmp_path / "bundle")
    assert not (tmp_path / "bundle" / "model.onnx").exists()
    assert "`model.onnx.xz` takes raw samples" in (tmp_path / "bundle" / "README.md").read_text()
    example = tmp_path / "bundle" / "example.py"
    answer = subprocess.run([sys.executable, example], capture_output=True, text=True, cwd="/")
    assert answer.stdout.startswith("class "), answer.stderr
    assert "nas_compress" not in example.read_text()


def test_a_trial_over_budget_is_not_exported(run: RunFolder, tmp_path: Path) -> None:
    over = next(record.trial for record in read_records(run) if record.outcome.state == "over_budget")
    with pytest.raises(RequestError, match=rf"trial {over} ended as over_budget: size_bytes <= 60000 must hold"):
        export_bundle(run, over, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_trial_that_was_cut_is_not_exported(run: RunFolder, tmp_path: Path) -> None:
    cut = RunFolder(root=tmp_path / "run")
    cut.trial(7).mkdir(parents=True)
    with pytest.raises(RequestError, match="trial 7 was not finished"):
        export_bundle(cut, 7, tmp_path / "bundle")
    with pytest.raises(RequestError, match="trial 8 does not exist"):
        export_bundle(cut, 8, tmp_path / "bundle")
