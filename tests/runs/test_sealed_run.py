"""Whatever happens to a file of a run folder, a command names it in one line and shows no other figure."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas_compress.errors import DamagedFileError, RequestError
from nas_compress.files import digest_of_file, json_text, read_sealed_json, write_json, write_sealed_json
from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.folder import RunFolder, open_run, require_free
from nas_compress.runs.records import (
    Record,
    ignored_folders,
    read_baseline,
    read_candidate,
    read_record,
    read_records,
    write_record,
)
from nas_compress.runs.results import read_front
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Outcome
from running import ABOUT, change_record
from running import own_cache as own_cache

READERS: dict[str, Callable[[RunFolder], object]] = {
    "run.json": lambda folder: open_run(folder.root),
    "trials/0/outcome.json": read_records,
    "trials/0/candidate.json": lambda folder: read_candidate(folder, 0),
    "teacher/outcome.json": read_baseline,
}

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "doubled": lambda content: content * 2,
    "without its first value": lambda content: json_text(
        dict(list(json.loads(content).items())[1:])  # the checksum stays
    ).encode(),
    "without a checksum": lambda content: json_text(
        {name: value for name, value in json.loads(content).items() if name != "sha256"}
    ).encode(),
    "another digit": lambda content: content.replace(b"1", b"2", 1),
    "no object": lambda content: b"[1, 2]",
    "deep": lambda content: b'{"a":' * 100_000,
    "zeros": lambda content: bytes(len(content)),
}


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> RunFolder:
    """A copy of a finished run of five trials that may be changed."""
    return RunFolder(root=shutil.copytree(finished / "run", tmp_path / "run"))


@pytest.fixture
def member(run: RunFolder) -> Record:
    """The record of the first front member."""
    found = read_record(run, int(read_front(run).members[0].trial))
    assert found is not None
    return found


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_named_with_the_way_out(name: str, damage: str, run: RunFolder) -> None:
    READERS[name](run)
    path = run.root / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(DamagedFileError, match=rf"^[^\n]*{name} is damaged: [^\n]+$") as refused:
        READERS[name](run)
    assert "Restore it from a copy" in str(refused.value)


def as_something_else(path: Path, kind: str) -> None:
    """Put a folder, a file or a link to nowhere in the place of a file or folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_bytes(b"")
    else:
        path.symlink_to("nowhere")


@pytest.mark.parametrize("name", ["trials/0/outcome.json", "trials/0", "trials", "teacher/outcome.json", "teacher"])
@pytest.mark.parametrize("kind", ["link", "other"])
def test_something_else_in_the_place_of_a_record_does_not_count_as_unfinished(
    name: str, kind: str, run: RunFolder
) -> None:
    is_file = name.endswith(".json")
    as_something_else(run.root / name, "link" if kind == "link" else "folder" if is_file else "file")
    with pytest.raises(
        DamagedFileError, match=rf"{name} is damaged: it is no {'file' if is_file else 'folder'}\. Rest"
    ):
        read_front(run)


def test_records_without_a_teacher_give_no_front(run: RunFolder) -> None:
    shutil.rmtree(run.teacher)
    with pytest.raises(DamagedFileError, match=r"teacher/outcome\.json is missing\. .* the teacher is measured again"):
        read_front(run)
    shutil.rmtree(run.root / "trials")
    assert read_front(run).points == ()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda record: record.update(trial=True), "trial must be 0"),
        (lambda record: record.update(trial=3), "trial must be 0, the name of its folder, but got 3"),
        (lambda record: record.update(finished_s=-1.0), "finished_s must be at least 0"),
        (lambda record: record.update(params=[]), "params must be an object"),
        (lambda record: record.update(model="/etc/passwd"), "model must be a file of the trial's own folder"),
        (lambda record: record.update(model="trials/0/../1/model.onnx"), "model must be a file"),
        (lambda record: record.update(model="trials/1/model.onnx"), "model must be a file"),
        (lambda record: record.update(files={"../model.onnx": "0" * 64}), "files must be digests by path"),
        (lambda record: record.update(files={"trials/0/model.onnx": "0"}), "files must be digests by path"),
        (lambda record: record.update(more=1), "more"),
        (lambda record: record.pop("outcome"), "it has no 'outcome'"),
        (lambda record: record.update(outcome=[]), "outcome.json is damaged"),
        (lambda record: record["outcome"].update(state="done"), "state must be one of trained, over_budget"),
        (lambda record: record["outcome"].update(epochs=True), "epochs must be a whole number"),
        (lambda record: record["outcome"].update(seconds={"training": "3"}), "seconds.training must be a finite"),
        (lambda record: record["outcome"].update(losses={"kd": "3"}), "losses.kd must be a number"),
        (lambda record: record["outcome"].update(curve=[[0.5, 1.0]]), "an epoch of the curve must be a whole number"),
        (lambda record: record["outcome"]["candidate"].update(pruning_ratio=2), "pruning_ratio"),
        (lambda record: record["outcome"]["candidate"].update(family="resnets"), "'resnets'"),
        (lambda record: record["outcome"]["measured"].update(accuracy=1.2), "0 <= accuracy <= 1 must hold"),
        (lambda record: record["outcome"]["measured"].update(latency_ms=0), "latency_ms > 0 must hold"),
        (lambda record: record["outcome"]["measured"].update(latency_ms=10**400), "outcome.json is damaged"),
        (lambda record: record["outcome"]["measured"].update(size_bytes=-5), "size_bytes > 0 must hold"),
        (lambda record: record["outcome"]["measured"].update(size_bytes=True), "size_bytes must be a finite number"),
        (lambda record: record["outcome"]["measured"].update(latency_noisy=1), "latency_noisy must be true or false"),
        (lambda record: record["outcome"].update(state="trained", measured=None), "must have figures"),
    ],
)
def test_a_record_with_impossible_values_is_refused(
    change: Callable[[dict[str, Any]], object], rule: str, run: RunFolder
) -> None:
    change_record(run.root, 0, change)
    with pytest.raises(DamagedFileError) as refused:
        read_records(run)
    assert rule in str(refused.value) and "trials/0/outcome.json is damaged" in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 600


def test_a_copied_trial_folder_is_refused_and_other_names_are_ignored(run: RunFolder) -> None:
    known = read_records(run)
    for name in ("0 copy", "x", "01", "+2", "٣", "1_0"):
        shutil.copytree(run.trial(0), run.root / "trials" / name)
    assert read_records(run) == known
    lines = ignored_folders(run)
    assert len(lines) == 6 and "trials/0 copy is no trial folder and is ignored" in lines
    shutil.copytree(run.trial(0), run.trial(7))
    with pytest.raises(DamagedFileError, match=r"trials/7/outcome\.json is damaged: trial must be 7, .* but got 0"):
        read_records(run)


MODEL_DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "doubled": lambda path: path.write_bytes(path.read_bytes() * 2),
    "changed": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x7f"),
    "missing": lambda path: path.unlink(),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "link to nowhere": lambda path: (path.unlink(), path.symlink_to(path.with_name("gone"))),
    "circle of links": lambda path: (path.unlink(), path.symlink_to(path)),
    "link out of the run": lambda path: path.symlink_to(path.rename(path.parents[3] / "outside.onnx")),
}


@pytest.mark.parametrize("damage", MODEL_DAMAGES)
def test_a_model_is_exported_only_as_it_was_measured(
    damage: str, run: RunFolder, member: Record, tmp_path: Path
) -> None:
    path = run.root / member.model
    MODEL_DAMAGES[damage](path)
    words = "is (not the file that was measured: its SHA-256 differs|missing|a link to a place outside the run folder)"
    with pytest.raises(DamagedFileError, match=rf"^[^\n]*{member.model} {words}\. Restore it[^\n]*$"):
        export_bundle(run, member.trial, tmp_path / "new" / "bundle")
    assert not (tmp_path / "new").exists()


def test_a_record_without_a_digest_of_its_model_is_no_ground_to_ship_it(
    run: RunFolder, member: Record, tmp_path: Path
) -> None:
    change_record(run.root, member.trial, lambda record: record.update(files={}))
    with pytest.raises(DamagedFileError, match="cannot be checked: its record has no SHA-256 of it"):
        export_bundle(run, member.trial, tmp_path / "bundle")


def test_a_bundle_names_the_digest_and_the_versions_of_its_trial(
    run: RunFolder, member: Record, tmp_path: Path
) -> None:
    change_record(run.root, member.trial, lambda record: record.update(versions={"torch": "1.0"}))
    export_bundle(run, member.trial, tmp_path / "bundle")
    assert json.loads((tmp_path / "bundle" / "config.json").read_text())["versions"] == {"torch": "1.0"}
    metrics = json.loads((tmp_path / "bundle" / "metrics.json").read_text())
    assert metrics["sha256"] == digest_of_file(tmp_path / "bundle" / "model.onnx") == member.files[member.model]


def test_numbers_that_json_lacks_are_null_in_files_and_return_as_nan(tmp_path: Path) -> None:
    assert json_text({"a": float("inf"), "b": [float("nan"), (1.5,)], 3: None}) == json.dumps(
        {"a": None, "b": [None, [1.5]], "3": None}, indent=2
    )
    write_sealed_json(tmp_path / "x.json", {"a": float("nan"), "b": {10: 1, 9: 2}})
    assert read_sealed_json(tmp_path / "x.json") == {"a": None, "b": {"10": 1, "9": 2}}
    folder = RunFolder(root=tmp_path)
    outcome = Outcome(
        candidate=Candidate(family="resnet", depths=(1, 1, 1)), seed=0, state="failed", reason="why",
        losses={"kd": float("inf")}, curve=((1, float("nan")),),
    )  # fmt: skip
    write_record(folder, Record(trial=0, params={}, outcome=outcome, finished_s=0.0, model=""))
    assert "NaN" not in (folder.trial(0) / "outcome.json").read_text()
    found = read_record(folder, 0)
    assert (
        found is not None and str(found.outcome.curve) == "((1, nan),)" and str(found.outcome.losses) == "{'kd': nan}"
    )


def test_trials_without_their_marker_are_no_free_folder(run: RunFolder) -> None:
    run.marker.unlink()
    with pytest.raises(DamagedFileError, match=r"run\.json is missing\. Restore it from a copy, or start a new run"):
        require_free(run.root)


def test_a_marker_of_a_later_version_or_without_its_keys_is_refused(tmp_path: Path) -> None:
    later = RunFolder(root=tmp_path / "later")
    later.start(ABOUT)
    write_json(later.marker, {**ABOUT, "format": "nas_compress run 3"})
    for look in (open_run, require_free):
        with pytest.raises(
            RequestError, match=r"of the format 'nas_compress run 2' or earlier, but .* 'nas_compress run 3'"
        ):
            look(later.root)
    for key in ("study", "study_folder", "versions", "machine", "space", "classes"):
        folder = RunFolder(root=tmp_path / key)
        folder.start({name: value for name, value in ABOUT.items() if name != key})
        with pytest.raises(DamagedFileError, match=r"run\.json is damaged: it has no"):
            open_run(folder.root)
