"""Confirming a real run: killed and resumed, its test split read once, its files and its plots."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from image_files import file_accuracy
from nas_compress.confirm.controls import CONTROLS, Control
from nas_compress.confirm.run import confirm_run
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import DamagedFileError, RequestError
from nas_compress.files import read_json
from nas_compress.report.page import report_page
from nas_compress.runs.confirmation import read_confirmation
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.results import draw, read_front
from nas_compress.runs.selection import chosen_members
from nas_compress.search.run import run_study
from nas_compress.values.candidate import Teaching, cross_entropy
from running import (
    SPACE,
    Command,
    Told,
    command_in,
    quick_and_apart,
    shared_cache,
    snapshot,
    start,
    wait_until,
    write_study,
)
from running import own_cache as own_cache


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command_in(monkeypatch, capfd)


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose most accurate member was killed in the middle of its confirmation, and then confirmed."""
    folder = tmp_path_factory.mktemp("confirmed")
    root, log = folder / "run", folder / "log"
    with quick_and_apart():
        study = write_study(
            folder / "study",
            ("\nepochs = 1\n", "\nepochs = 3\n"),
            space=SPACE.replace("=width)", "=width, pruning_ratio=0.4, pruning_criterion='l1')"),
            extra='\n[export]\nform = "compressed"\n',
        )
        run_study(study, out=root, trials=3)
        best = str(chosen_members(read_front(RunFolder(root=root)), best=["accuracy"])[0].trial)
        words = ["confirm", root, "--best", "accuracy", "--seeds", 2, "--controls"]
        process = start(words, cwd=folder, cache=shared_cache(), log=log)
        first = root / "confirm" / best / "student-1" / "outcome.json"
        wait_until(first.is_file, process)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(30)
        assert not (root / "confirm.json").exists()
        assert not (root / "confirm" / "test.json").exists()
        kept = first.stat().st_mtime_ns
        again = start(words, cwd=folder, cache=shared_cache(), log=log)
        again.join(600)
        assert again.exitcode == 0, log.read_text()
        assert first.stat().st_mtime_ns == kept, "what was finished is not trained again"
    return RunFolder(root=root)


def test_every_repetition_is_kept_and_measures_to_what_the_rows_say(confirmed: RunFolder) -> None:
    confirmation = read_confirmation(confirmed)
    assert confirmation is not None
    (student,) = confirmation.students
    assert student.seeds == 2
    roles = {row.role for row in confirmation.rows}
    assert {"student", "uniform_width"} <= roles and not {"no_teacher", "float32"} & roles, "its own controls"
    test = load_dataset(name="digits", seed=0).test.reveal(purpose="a test of the tool")
    places = [confirmed.root / "confirm" / str(student.trial) / f"student-{seed}" for seed in (1, 2)]
    found = [
        file_accuracy(place / "model.onnx.xz", test.inputs["input"].numpy(), test.targets["label"].numpy())
        for place in places
    ]
    assert student.test_mean == pytest.approx(sum(found) / 2)
    assert [read_json(place / "outcome.json")["seed"] for place in places] == [1, 2]
    own = confirmed.root / "trials" / str(student.trial) / "model.onnx.xz"
    assert student.test_shipped == file_accuracy(own, test.inputs["input"].numpy(), test.targets["label"].numpy())
    assert confirmation.test_samples == len(test)


def test_the_search_never_saw_the_test_split_and_confirmation_reads_it_once(
    confirmed: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(read_json(confirmed.root / "confirm" / "test.json")["reads"]) == 1
    members = chosen_members(read_front(confirmed), best=["accuracy"])
    with caplog.at_level(logging.INFO):
        again = confirm_run(confirmed, members, seeds=2, controls=CONTROLS)
    assert not [message for message in caplog.messages if "revealed" in message]
    assert again == read_confirmation(confirmed)


def test_its_table_and_its_plots_carry_what_was_found(confirmed: RunFolder, tmp_path: Path) -> None:
    with (confirmed.root / "confirm.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert rows[0]["role"] == "student"
    assert rows[-1]["trial"] == "teacher"
    draw(confirmed, tmp_path / "front.svg")
    assert "Bars: mean and standard deviation" in (tmp_path / "front.svg").read_text()
    page = report_page(confirmed)
    assert "Confirmed with new seeds" in page
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    (spread,) = data["spreads"]["by_trial"]
    assert [spread[0], *spread[1]] == [
        int(rows[0]["trial"]),
        float(rows[0]["validation_mean"]),
        float(rows[0]["validation_std"]),
    ]


def test_a_control_that_cannot_be_trained_is_told_and_left_out(
    confirmed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    untaught = Control(
        summary="asks for a teacher that its losses do not read",
        make=lambda member, context, seed: replace(member, losses=cross_entropy(), teaching=Teaching(annealing=True)),
    )
    monkeypatch.setitem(CONTROLS, "untaught", untaught)  # type: ignore[arg-type]
    run = tmp_path / "run"
    shutil.copytree(confirmed.root, run)
    folder = RunFolder(root=run)
    members = chosen_members(read_front(folder), best=["accuracy"])
    again = confirm_run(folder, members, seeds=2, controls=["untaught"], reporter=told)
    assert [row.role for row in again.rows] == ["student"]
    assert any("has no control untaught: teaching needs a term on the teacher" in line for line in told.lines)


def test_mistakes_are_refused_before_anything_is_trained(
    confirmed: RunFolder, command: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(confirmed.root, run)
    before = snapshot(run)
    for arguments, words in (
        (("--seeds", 0), "--seeds"),
        (("--where", "acuracy>=0.1"), "did you mean 'accuracy'"),
        (("--best", "speed"), "'speed'"),
        (("--control", "float"), "did you mean 'float32'"),
    ):
        answer = command("confirm", run, *arguments)
        assert answer.code == 2
        assert words in answer.line
    assert "'nothing'" in command("confirm", "nothing").line
    assert snapshot(run) == before
    folder = RunFolder(root=run)
    about = folder.about()
    about["study"]["data"]["seed"] = 7
    folder.start(about)
    with pytest.raises(RequestError, match="the data must be those of the run, but trial"):
        confirm_run(folder, read_front(folder).members)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("confirm/{best}/student-1/model.onnx.xz", "is not the file that was measured: its SHA-256 differs"),
        ("confirm/{best}/student-1/outcome.json", "is damaged: "),
        ("confirm/test.json", "is damaged: "),
        ("trials/{best}/model.onnx.xz", "is not the file that was measured: its SHA-256 differs"),
        ("teacher/model.onnx", "is not the file that was measured: its SHA-256 differs"),
    ],
)
def test_a_changed_file_of_a_confirmation_gives_no_figures(
    name: str, words: str, confirmed: RunFolder, tmp_path: Path
) -> None:
    folder = RunFolder(root=shutil.copytree(confirmed.root, tmp_path / "run"))
    members = chosen_members(read_front(folder), best=["accuracy"])
    path = folder.root / name.format(best=members[0].trial)
    path.write_bytes(path.read_bytes() + b"x")
    before = snapshot(folder.root)
    with pytest.raises(DamagedFileError, match=rf"^{path} {words}[^\n]*\. Restore it[^\n]* or remove [^\n]*$"):
        confirm_run(folder, members, seeds=2)
    assert {name for name, facts in snapshot(folder.root).items() if before.get(name) != facts} <= {
        str(folder.root / ".lock")
    }


def test_a_removed_repetition_is_trained_again_without_another_reading_of_the_test_split(
    confirmed: RunFolder, tmp_path: Path
) -> None:
    folder = RunFolder(root=shutil.copytree(confirmed.root, tmp_path / "run"))
    members = chosen_members(read_front(folder), best=["accuracy"])
    place = folder.root / "confirm" / str(members[0].trial) / "student-2"
    shutil.rmtree(place)
    confirm_run(folder, members, seeds=2, controls=CONTROLS)
    assert (place / "model.onnx.xz").is_file()
    assert len(read_json(folder.root / "confirm" / "test.json")["reads"]) == 1
    known, again = read_confirmation(confirmed), read_confirmation(folder)
    assert known is not None and again is not None
    assert [row.test_mean for row in again.rows] == [row.test_mean for row in known.rows]


def test_verify_finds_a_lost_repetition_and_a_changed_one(
    confirmed: RunFolder, command: Command, tmp_path: Path
) -> None:
    folder = RunFolder(root=shutil.copytree(confirmed.root, tmp_path / "run"))
    assert command("verify", folder.root, "--fast").code == 0
    (first, second) = sorted(folder.root.glob("confirm/*/student-*"))
    shutil.rmtree(first)
    with (second / "model.onnx.xz").open("ab") as file:
        file.write(b"x")
    answer = command("verify", folder.root, "--fast")
    assert answer.code == 1 and answer.line.endswith(", 2 problems")
    lines = answer.out.splitlines()
    assert lines[0].startswith(f"{first / 'outcome.json'} is missing. Restore it from a copy, or remove {first} and")
    assert lines[1].startswith(f"{second / 'model.onnx.xz'} is not the file that was measured")


def test_a_damaged_summary_is_named_by_the_commands_that_read_it(
    confirmed: RunFolder, command: Command, tmp_path: Path
) -> None:
    folder = RunFolder(root=shutil.copytree(confirmed.root, tmp_path / "run"))
    with (folder.root / "confirm.json").open("ab") as file:
        file.write(b"x")
    assert command("status", folder.root).code == 0
    answer = command("plot", folder.root, "--out", tmp_path / "front.svg")
    assert answer.code == 1 and "confirm.json is damaged: " in answer.line
    assert answer.line.endswith("Restore it from a copy, or remove it and confirm again.")
