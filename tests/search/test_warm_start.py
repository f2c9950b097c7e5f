"""Earlier runs teach the models of a new study; none of their students is on its front."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError
from nas_compress.files import read_sealed_json, write_sealed_json
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from nas_compress.search.samplers.cost_cache import PREFIX
from nas_compress.search.samplers.earlier import EARLIER, MOST, earlier_candidates
from nas_compress.search.setup import gather
from nas_compress.search.storage.earlier_runs import TAKEN_OVER, learn_from_earlier, require_earlier_runs
from nas_compress.search.storage.journal import read_journal
from running import SPACE, Told, write_study

EHVI = ('sampler = "random"', 'sampler = "ehvi"')


def warm(folder: Path, entry: str = "../first", **more: str) -> Path:
    return write_study(folder, EHVI, extra=f'warm_start = ["{entry}"]\n', **more)


def study_of(run: Path) -> optuna.Study:
    return optuna.load_study(study_name="tiny", storage=read_journal(run / "study.journal")[0])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def first(kept: Path, tmp_path: Path, untrained: None) -> Path:
    """A copy of the folder of a finished run."""
    if not (kept / "first").exists():
        run_study(write_study(kept / "study", EHVI), out=kept / "first", trials=4)
    return Path(shutil.copytree(kept / "first", tmp_path / "first"))


def test_the_trials_and_look_ups_of_a_run_are_copied_once_and_are_not_on_the_front(first: Path, tmp_path: Path) -> None:
    told = Told()
    study = warm(tmp_path / "second")
    front = run_study(study, out=tmp_path / "out", trials=2, reporter=told)
    opened = study_of(tmp_path / "out")
    records = [each for each in read_records(RunFolder(root=first)) if each.repeats is None]
    known = earlier_candidates(opened)
    assert [dict(each.params) for each in known] == [record.params for record in records]
    for each, record in zip(known, records, strict=True):
        measured = record.outcome.measured
        assert measured is not None and (each.values[1] is None) == measured.latency_noisy
        assert None not in (each.values[0], each.values[2]), "the same machine measured all of them"
    looked = {name for name in study_of(first).user_attrs if name.startswith(PREFIX)}
    assert looked and looked <= set(opened.user_attrs)
    assert any("warm start: " in line and str(first) in line for line in told.lines)
    assert len(read_records(RunFolder(root=tmp_path / "out"))) == 2
    assert {point.trial for point in front.members} <= {0, 1}
    first.rename(tmp_path / "gone")  # a study that goes on needs the earlier run no longer
    run_study(study, out=tmp_path / "out", trials=3)
    assert len(earlier_candidates(study_of(tmp_path / "out"))) == len(known)
    parts, fresh = gather(read_study(study)), optuna.create_study(directions=["maximize", "minimize", "minimize"])
    with pytest.raises(RequestError, match=r"got '../first': .* is none"):
        learn_from_earlier(fresh, parts, told.say, counts=True)
    fresh.add_trial(optuna.create_trial(values=[0.5, 1.0, 1.0]))
    learn_from_earlier(fresh, parts, told.say, counts=True)
    assert "the study continues without the warm start from '../first'" in told.lines[-1], "its journal was made anew"


def test_a_host_that_joins_needs_no_folder_if_the_trials_are_copied(first: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    run_study(warm(tmp_path / "second"), out=tmp_path / "out", trials=1, storage=url)
    first.rename(tmp_path / "gone")
    run_study(warm(tmp_path / "second"), out=tmp_path / "host", trials=2, storage=url)
    parts = gather(read_study(warm(tmp_path / "second")))
    require_earlier_runs(parts, url=url)
    with pytest.raises(RequestError, match="must name run folders"):
        require_earlier_runs(parts, url=f"sqlite:///{tmp_path}/empty.db")
    fresh = optuna.create_study()
    learn_from_earlier(fresh, parts, Told().say, counts=False)
    assert not fresh.user_attrs, "the machine of the study's latencies copies"


def test_what_may_be_of_another_machine_or_teacher_is_unknown_and_many_trials_are_few(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, told = RunFolder(root=first), Told()
    marker, about = folder.marker, read_sealed_json(folder.marker)
    one = next(each for each in read_records(folder) if each.repeats is None and each.outcome.measured is not None)
    assert one.outcome.measured is not None
    figures = {name: value for name, value in one.outcome.measured.figures.items() if name != "size_bytes"}
    noisy = replace(one.outcome.measured, figures=figures, latency_noisy=True)
    record = replace(one, outcome=replace(one.outcome, measured=noisy), told=None)
    monkeypatch.setattr("nas_compress.search.storage.earlier_runs.read_records", lambda _: [record] * 5000)

    def copied(study: Path) -> optuna.Study:
        opened = optuna.create_study(directions=["maximize", "minimize", "minimize"])
        learn_from_earlier(opened, gather(read_study(study)), told.say, counts=True)
        return opened

    known = copied(warm(tmp_path / "a"))
    assert [each.values for each in earlier_candidates(known)] == [(figures["accuracy"], None, None)] * MOST
    assert "warm start: 64 of 5000 trials and " in told.lines[-1] and " 0 look-ups" not in told.lines[-1]
    other = warm(tmp_path / "b")
    other.write_text(other.read_text().replace("widths = [8, 16, 16]", "widths = [8, 16, 32]"))
    copied(other)
    assert " and 0 look-ups" in told.lines[-1], "a student may be cut from the teacher"
    write_sealed_json(marker, {name: value for name, value in about.items() if name != "sha256"} | {TAKEN_OVER: True})
    copied(warm(tmp_path / "a"))
    assert " and 0 look-ups" in told.lines[-1]


def test_times_of_another_machine_are_not_used(first: Path, tmp_path: Path) -> None:
    marker = RunFolder(root=first).marker
    about = read_sealed_json(marker)
    about["machine"]["key"] = "another"
    write_sealed_json(marker, {name: value for name, value in about.items() if name != "sha256"})
    told = Told()
    run_study(warm(tmp_path / "second"), out=tmp_path / "out", trials=1, reporter=told)
    rows = json.loads(study_of(tmp_path / "out").user_attrs[f"{EARLIER}0"])
    values = [dict(zip(("accuracy", "latency_ms", "size_bytes"), row[1], strict=True)) for row in rows]
    assert all(each["latency_ms"] is None and None not in (each["accuracy"], each["size_bytes"]) for each in values)
    assert any("another machine" in line for line in told.lines)


def test_other_spaces_data_and_folders_are_refused_in_one_line(first: Path, tmp_path: Path) -> None:
    def refusal(study: Path) -> str:
        out = tmp_path / "refused"
        with pytest.raises(RequestError) as caught:
            run_study(study, out=out)
        assert not out.exists() and "\n" not in str(caught.value)
        return str(caught.value)

    assert "needs runs of the same space, but '../first' searched 'space' with another text" in refusal(
        warm(tmp_path / "a", space=SPACE.replace("0.75, ", ""))
    )
    other = warm(tmp_path / "b")
    other.write_text(other.read_text().replace("train_samples = 200", "train_samples = 190"))
    assert "needs runs on the same data and split, but '../first' has other samples than study.toml" in refusal(other)
    assert "must name run folders, but got '../frst'" in (line := refusal(warm(tmp_path / "c", "../frst")))
    assert "runs beside it: first" in line
    for number, entry in enumerate(("~nosuchuser/run", "a\\u0000b")):
        assert "must name run folders, but got" in refusal(warm(tmp_path / f"d{number}", entry))


def test_a_run_of_an_earlier_version_says_its_data_in_the_journal(first: Path, tmp_path: Path) -> None:
    marker = RunFolder(root=first).marker
    about = read_sealed_json(marker)
    write_sealed_json(marker, {name: value for name, value in about.items() if name not in ("sha256", "data")})
    parts = gather(read_study(warm(tmp_path / "second")))
    require_earlier_runs(parts)
    (first / "study.journal").unlink()
    with pytest.raises(RequestError, match="is of an earlier version and does not name its data"):
        require_earlier_runs(parts)


def test_a_damaged_record_and_an_unknown_parameter_are_refused_before_the_run(first: Path, tmp_path: Path) -> None:
    record = first / "trials" / "0" / "outcome.json"
    record.write_text(record.read_text().replace("trained", "traimed", 1))
    with pytest.raises(
        RequestError, match=r"search.warm_start must name run folders, but got '../first'.*outcome.json"
    ):
        require_earlier_runs(gather(read_study(warm(tmp_path / "second"))))
    guess = write_study(tmp_path / "guess", EHVI, extra="[search.prior]\nwidth_multiplyer = 0.5\n")
    with pytest.raises(RequestError, match=r"'width_multiplyer' \(study.toml: search.prior\); did you mean"):
        gather(read_study(guess))
