"""Earlier runs teach the models of a new study; none of their students is on its front."""

from __future__ import annotations

import json
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
from nas_compress.search.samplers.earlier import EARLIER, earlier_candidates
from nas_compress.search.setup import gather
from nas_compress.search.storage.earlier_runs import require_earlier_runs
from nas_compress.search.storage.journal import read_journal
from running import SPACE, Told, write_study

EHVI = ('sampler = "random"', 'sampler = "ehvi"')


def warm(folder: Path, entry: str = "../first", **more: str) -> Path:
    return write_study(folder, EHVI, extra=f'warm_start = ["{entry}"]\n', **more)


def study_of(run: Path) -> optuna.Study:
    return optuna.load_study(study_name="tiny", storage=read_journal(run / "study.journal")[0])


@pytest.fixture
def first(tmp_path: Path, untrained: None) -> Path:
    """The folder of a finished run."""
    run_study(write_study(tmp_path / "study", EHVI), out=tmp_path / "first", trials=4)
    return tmp_path / "first"


def test_the_trials_and_look_ups_of_a_run_are_copied_once_and_are_not_on_the_front(first: Path, tmp_path: Path) -> None:
    told = Told()
    study = warm(tmp_path / "second")
    front = run_study(study, out=tmp_path / "out", trials=2, reporter=told)
    opened = study_of(tmp_path / "out")
    records = [each for each in read_records(RunFolder(root=first)) if each.repeats is None]
    known = earlier_candidates(opened)
    assert [dict(each.params) for each in known] == [record.params for record in records]
    assert all(value is not None for each in known for value in each.values), "the same machine measured all of them"
    looked = {name for name in study_of(first).user_attrs if name.startswith(PREFIX)}
    assert looked and looked <= set(opened.user_attrs)
    assert any("warm start: " in line and str(first) in line for line in told.lines)
    assert len(read_records(RunFolder(root=tmp_path / "out"))) == 2
    assert {point.trial for point in front.members} <= {0, 1}
    first.rename(tmp_path / "gone")  # a study that goes on needs the earlier run no longer
    run_study(study, out=tmp_path / "out", trials=3)
    assert len(earlier_candidates(study_of(tmp_path / "out"))) == len(known)


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


def test_a_run_of_an_earlier_version_says_its_data_in_the_journal(first: Path, tmp_path: Path) -> None:
    marker = RunFolder(root=first).marker
    about = read_sealed_json(marker)
    write_sealed_json(marker, {name: value for name, value in about.items() if name not in ("sha256", "data")})
    parts = gather(read_study(warm(tmp_path / "second")))
    assert [folder.root.name for folder in require_earlier_runs(parts)] == ["first"]


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
