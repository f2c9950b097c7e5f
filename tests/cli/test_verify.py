"""`nas-compress verify` finds every changed file of a run, and every figure that its file does not have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nas_compress.files import read_sealed_json, write_json, write_sealed_json
from nas_compress.runs.confirmation import Confirmation, write_confirmation
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.marker import WITHOUT_CHECKSUMS, read_marker, write_marker
from nas_compress.runs.records import read_record
from nas_compress.runs.results import read_front
from running import Command, change_record, snapshot, write_study


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run of five trials that may be changed."""
    return shutil.copytree(finished / "run", tmp_path / "run")


def member(run: Path) -> int:
    return int(read_front(RunFolder(root=run)).members[0].trial)


def test_a_whole_run_has_no_problem_and_its_figures_are_found_again(command: Command, finished: Path) -> None:
    run = finished / "run"
    before = snapshot(run)
    fast = command("verify", run, "--fast")
    assert (fast.code, fast.err) == (0, "")
    assert fast.out.startswith("tiny: 5 records, ") and fast.out.endswith(" compared with their SHA-256, no problems\n")
    answer = command("verify", run, "--json")
    values = json.loads(answer.out)
    assert answer.code == 0 and values["problems"] == values["notes"] == []
    members = [point.model for point in read_front(RunFolder(root=run)).members]
    assert [each["model"] for each in values["measured"]][:-1] == sorted(members)
    assert values["measured"][-1]["model"] == "teacher/model.onnx"
    assert all(each["latency_ratio"] > 0 for each in values["measured"])
    assert snapshot(run) == before


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a record": (lambda run: _append(run / "trials/0/outcome.json", b"}"), "trials/0/outcome.json is damaged"),
    "a candidate": (lambda run: _append(run / "trials/0/candidate.json", b"}"), "trials/0/candidate.json is damaged"),
    "the candidate of another trial": (
        lambda run: write_sealed_json(
            run / f"trials/{member(run)}/candidate.json",
            read_sealed_json(run / f"trials/{member(run)}/candidate.json") | {"pruning_ratio": 0.25},
        ),
        "candidate.json is damaged: it is not the candidate of the record",
    ),
    "a model": (lambda run: _append(run / f"trials/{member(run)}/model.onnx", b"x"), "its SHA-256 differs"),
    "a missing model": (lambda run: (run / f"trials/{member(run)}/model.onnx").unlink(), "model.onnx is missing"),
    "the teacher": (lambda run: _append(run / "teacher/model.onnx", b"x"), "teacher/model.onnx is not the file"),
    "the weights of the teacher": (lambda run: _append(run / "teacher/teacher.safetensors", b"x"), "its SHA-256"),
    "the figures of the teacher": (lambda run: _append(run / "teacher/outcome.json", b"x"), "outcome.json is damaged"),
    "front.json": (lambda run: (run / "front.json").write_text("{}"), "front.json is damaged"),
    "a figure in front.csv": (
        lambda run: (run / "front.csv").write_text((run / "front.csv").read_text().replace("float32", "int8")),
        "front.csv differs from the records",
    ),
    "a lost front.csv": (lambda run: (run / "front.csv").unlink(), "front.csv is damaged"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named_in_one_line(name: str, command: Command, run: Path) -> None:
    change, words = CHANGES[name]
    change(run)
    answer = command("verify", run, "--fast")
    assert answer.code == 1
    (problem,) = [line for line in answer.out.splitlines() if "is no trial folder" not in line]
    assert words in problem and ("Restore it" in problem or "`run` command writes it again" in problem)
    assert answer.line.endswith(", 1 problem")
    values = json.loads(command("verify", run, "--fast", "--json").out)
    assert values["problems"] == [problem]


def test_every_problem_is_listed_and_nothing_is_measured_then(command: Command, run: Path) -> None:
    for trial in (0, 1):
        _append(run / f"trials/{trial}/outcome.json", b"x")
    shutil.copytree(run / "trials/2", run / "trials/2 (copy)")
    answer = command("verify", run)
    assert answer.code == 1 and answer.line.endswith(", 2 problems")
    lines = answer.out.splitlines()
    assert ["is damaged" in line for line in lines[:2]] == [True, True]
    assert "trials/2 (copy) is no trial folder and is ignored" in lines
    assert "the figures are not measured again because of the problems above" in lines


def test_a_sealed_figure_that_the_file_does_not_have_is_found(command: Command, finished: Path, run: Path) -> None:
    trial = member(run)
    change_record(run, trial, lambda record: record["outcome"]["measured"].update(accuracy=0.875, size_bytes=7))
    assert command("run", finished / "study", "--out", run, "--trials", 5).code == 0
    answer = command("verify", run)
    assert answer.code == 1
    lines = answer.out.splitlines()
    assert f"trials/{trial}/model.onnx has accuracy " in lines[0] and "and its record 0.875" in lines[0]
    assert f"trials/{trial}/model.onnx has size_bytes " in lines[1] and "and its record 7" in lines[1]


def test_data_of_own_code_are_loaded_only_from_a_study_that_the_user_names(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", ('name = "digits"\ntrain_samples = 200', 'factory = "own:load"'))
    (tmp_path / "study" / "own.py").write_text(
        "from pathlib import Path\n"
        "from sklearn.datasets import load_digits\n"
        "def load():\n"
        "    with Path(__file__).with_name('calls').open('a') as file: file.write('x')\n"
        "    images, labels = load_digits(return_X_y=True)\n"
        "    images = images.reshape(-1, 1, 8, 8).astype('uint8')\n"
        "    return {'train': (images[:300], labels[:300]), 'test': (images[300:400], labels[300:400])}\n"
    )
    assert command("run", study, "--trials", 1, "--out", tmp_path / "run").code == 0
    calls = (tmp_path / "study" / "calls").read_text()
    answer = command("verify", tmp_path / "run")
    assert answer.code == 0 and "not measured again: data of your own code need --study" in answer.out
    assert (tmp_path / "study" / "calls").read_text() == calls
    answer = command("verify", tmp_path / "run", "--study", study)
    assert answer.code == 0 and "2 files measured again" in answer.out, answer
    assert answer.err == f"loads own.py (own:load) from {tmp_path / 'study'}\n"
    assert (tmp_path / "study" / "calls").read_text() != calls
    shutil.rmtree(tmp_path / "run" / "trials")
    answer = command("verify", tmp_path / "run", "--study", study)
    assert answer.code == 0 and "no figures are measured again: no trial is finished" in answer.out


def test_a_function_that_augments_is_not_loaded_from_a_run(command: Command, run: Path) -> None:
    values = read_marker(run / "run.json")
    values["study"]["data"] |= {"augment": "augment_of_run:change", "views": 2}
    write_marker(run / "run.json", values)
    (run / "augment_of_run.py").write_text(
        "from pathlib import Path\nPath('loaded').touch()\ndef change(images, generator): return images\n"
    )
    answer = command("verify", run)
    assert answer.code == 0 and "measured again" in answer.out, answer
    assert not Path("loaded").exists()


def test_a_confirmation_without_its_test_figures_is_a_problem(command: Command, run: Path) -> None:
    whole = Confirmation(rows=(), alike=(), test_samples=1, teacher_validation=0.9, teacher_test=0.9)
    write_confirmation(RunFolder(root=run), whole)
    answer = command("verify", run, "--fast")
    assert answer.code == 1 and f"{run / 'confirm' / 'test.json'} is missing. Restore it" in answer.out


def test_a_run_without_checksums_is_read_with_a_note(command: Command, run: Path) -> None:
    folder = RunFolder(root=run)
    write_json(folder.marker, read_sealed_json(folder.marker) | {"format": WITHOUT_CHECKSUMS})
    answer = command("verify", run, "--fast")
    assert answer.code == 0 and "an earlier version wrote the folder without checksums" in answer.out


def test_fast_and_study_exclude_each_other(command: Command, run: Path) -> None:
    answer = command("verify", run, "--fast", "--study", "digits")
    assert answer.code == 2 and "--study must be given without --fast" in answer.line


def test_an_unfinished_run_is_verified_without_its_front(command: Command, run: Path) -> None:
    shutil.rmtree(run / "trials" / "4")
    (run / "front.json").unlink()
    answer = command("verify", run, "--fast")
    assert answer.code == 0 and "4 of 5 trials are finished: the front is not compared" in answer.out
    assert read_record(RunFolder(root=run), 4) is None


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
