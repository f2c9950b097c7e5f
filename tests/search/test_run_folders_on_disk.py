"""`run` on folders with damaged, removed, older and vanishing files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nas_compress.errors import DamagedFileError, RunError
from nas_compress.files import digest_of_file, read_json, read_sealed_json, write_json
from nas_compress.runs.folder import RunFolder, open_run
from nas_compress.runs.marker import FORMAT, WITHOUT_CHECKSUMS
from nas_compress.runs.records import Record, read_record, read_records
from nas_compress.runs.results import read_front
from nas_compress.runs.versions import versions
from nas_compress.search.run import run_study
from nas_compress.values.outcome import Measured
from running import Told, change_record, snapshot, write_study


@pytest.fixture
def study(finished: Path) -> Path:
    return finished / "study"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> RunFolder:
    """A copy of a finished run of five trials that may be changed."""
    return RunFolder(root=shutil.copytree(finished / "run", tmp_path / "run"))


def as_an_earlier_version_wrote_it(run: RunFolder) -> None:
    """Remove the checksums, the digests and the versions of trials from a run."""
    for path in [run.marker, *run.root.rglob("outcome.json"), *run.root.rglob("candidate.json")]:
        values = read_sealed_json(path)
        for key in ("files", "versions") if path.name == "outcome.json" else ():
            values.pop(key, None)
        write_json(path, values | ({"format": WITHOUT_CHECKSUMS} if path == run.marker else {}))


def test_a_run_refuses_a_changed_member_and_trains_it_again_once_its_folder_is_removed(
    study: Path, run: RunFolder
) -> None:
    member = int(read_front(run).members[0].trial)
    known = read_record(run, member)
    assert known is not None
    with (run.root / known.model).open("ab") as file:
        file.write(b"\0")
    before = snapshot(run.root / "trials")
    for total in (5, 6):
        with pytest.raises(DamagedFileError, match=rf"{known.model} is not .* or remove .*trials/{member} and run"):
            run_study(study, out=run.root, trials=total)
    assert snapshot(run.root / "trials") == before
    shutil.rmtree(run.trial(member))
    told = Told()
    run_study(study, out=run.root, trials=5, reporter=told)
    assert f"trials/{member} has no record any more; its candidate is tried again under another number" in told.lines
    again = read_records(run)[-1]
    assert again.trial == 5 and again.params == known.params and again.repeats is None
    assert list(again.files.values()) == list(known.files.values()), "the same training gives the same bytes"
    told.lines.clear()
    run_study(study, out=run.root, trials=5, reporter=told)
    assert any(line.startswith("nothing to do: 5 trials") for line in told.lines)
    assert not any("no record any more" in line for line in told.lines)


def test_a_teacher_that_was_removed_is_measured_again(study: Path, run: RunFolder) -> None:
    digest = digest_of_file(run.teacher / "model.onnx")
    (run.teacher / "model.onnx").write_bytes(b"")
    with pytest.raises(DamagedFileError, match=r"teacher/model\.onnx is not .* or remove .*teacher and run the study"):
        run_study(study, out=run.root, trials=5)
    shutil.rmtree(run.teacher)
    run_study(study, out=run.root, trials=5)
    assert digest_of_file(run.teacher / "model.onnx") == digest


def lasting(records: Sequence[Record]) -> list[Record]:
    """The records without the latencies of their files, which a later measurement changes."""
    measured = [record.outcome.measured for record in records]
    assert all(measured)
    return [
        replace(record, outcome=replace(record.outcome, measured=each and _with_latency(each, 0.0)))
        for record, each in zip(records, measured, strict=True)
    ]


def _with_latency(measured: Measured, latency_ms: float) -> Measured:
    timed = measured.with_figures({"latency_ms": latency_ms})
    return replace(timed, latency_spread=0.0, latency_noisy=False, float32_latency_ms=None)


def test_a_folder_of_an_earlier_version_is_read_and_gets_checksums_from_run(study: Path, run: RunFolder) -> None:
    sealed, front = read_records(run), read_front(run).to_rows()
    as_an_earlier_version_wrote_it(run)
    before = snapshot(run.root)
    older = open_run(run.root)
    assert read_front(older).to_rows() == front and not any(record.files for record in read_records(older))
    assert snapshot(run.root) == before
    told = Told()
    run_study(study, out=run.root, trials=5, reporter=told)
    assert sum("got checksums" in line for line in told.lines) == 1
    today = open_run(run.root)
    assert read_json(run.marker)["format"] == FORMAT and today.sealed
    assert lasting(read_records(today)) == lasting(sealed)
    told.lines.clear()
    run_study(study, out=run.root, trials=5, reporter=told)
    assert not any("got checksums" in line for line in told.lines)
    write_json(run.trial(0) / "outcome.json", read_sealed_json(run.trial(0) / "outcome.json"))
    with pytest.raises(DamagedFileError, match="it has no checksum"):
        read_records(today)


def test_a_folder_of_an_earlier_version_with_a_file_of_another_size_gets_no_checksums(
    study: Path, run: RunFolder
) -> None:
    member = read_record(run, int(read_front(run).members[0].trial))
    as_an_earlier_version_wrote_it(run)
    assert member is not None
    (run.root / member.model).write_bytes(b"x")
    before = snapshot(run.root)
    with pytest.raises(DamagedFileError, match=rf"{member.model} is not the file that was measured: it has 1 bytes"):
        run_study(study, out=run.root, trials=5)
    changed = {name for name, facts in snapshot(run.root).items() if before.get(name) != facts}
    assert changed <= {str(run.root / name) for name in (".lock", ".journal.lock", "run.log")}


def test_a_run_under_other_versions_says_so_and_keeps_those_of_each_trial(study: Path, run: RunFolder) -> None:
    assert all(record.versions == versions() for record in read_records(run))
    for trial in range(3):
        change_record(run.root, trial, lambda record: record["versions"].update(torch="1.0", numpy="1.1"))
    told, now = Told(), versions()
    run_study(study, out=run.root, trials=6, reporter=told)
    line = f"torch 1.0 before, {now['torch']} now; numpy 1.1 before, {now['numpy']} now: trials 0 to 2 were made under"
    assert sum(each.startswith(line) for each in told.lines) == 1
    records = read_records(run)
    assert [record.versions["torch"] for record in records[:5]] == ["1.0"] * 3 + [now["torch"]] * 2
    made_by = 5 if records[5].repeats is None else records[5].repeats
    assert records[5].versions["torch"] == ("1.0" if made_by < 3 else now["torch"])


class Remover(Told):
    """Removes the run folder in the first epoch of a trial, and may put another folder in its place."""

    def __init__(self, root: Path, *, replace: bool) -> None:
        super().__init__()
        self.root, self.replace = root, replace

    def stage(self, name: str, done: int, count: int) -> None:
        if name.startswith("trial") and self.root.exists() and not (self.root / "new").exists():
            shutil.rmtree(self.root)
            if self.replace:
                self.root.mkdir()
                (self.root / "new").touch()


@pytest.mark.parametrize("replace", [False, True])
def test_nothing_is_written_into_a_folder_that_was_removed(replace: bool, tmp_path: Path) -> None:
    root = tmp_path / "runs" / "tiny"
    study = write_study(tmp_path / "study")
    with pytest.raises(RunError, match=rf"^{root} was removed or replaced while this process used it\. [^\n]+$"):
        run_study(study, out=root, reporter=Remover(root, replace=replace))
    assert root.exists() == replace
    assert not replace or [path.name for path in root.iterdir()] == ["new"]
