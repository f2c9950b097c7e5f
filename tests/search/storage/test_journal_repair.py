"""A journal that is damaged, lost or changed: finished trials are as in their records, and the search goes on."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError, RunError
from nas_compress.files import digest_of_values
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_records
from nas_compress.search.run import run_study
from nas_compress.search.setup import StudyParts, gather
from nas_compress.search.storage.journal_repair import JournalKeeper, Repaired
from nas_compress.search.storage.optuna_storage import open_storage, study_identity
from nas_compress.search.storage.optuna_trials import difference, told_trial
from running import Told, quick_and_apart, sketch_pictures, write_study

SEARCH = 'sampler = "random"\nstop = "behind"\nstart = ["smallest", "largest"]'
BUDGET = "\n[budgets.size_bytes]\nat_most = 60000\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study under a budget, with start points and a stopping rule, and its finished run."""
    folder = tmp_path_factory.mktemp("finished")
    with quick_and_apart() as patch:
        sketch_pictures(patch)
        changes = ("\nepochs = 1\n", "\nepochs = 3\n"), ("trials = 3", "trials = 6"), ('sampler = "random"', SEARCH)
        run_study(write_study(folder / "study", *changes, extra=BUDGET), out=folder / "run")
    return folder


@pytest.fixture(scope="module")
def parts(finished: Path) -> StudyParts:
    return gather(read_study(finished / "study"))


@pytest.fixture(scope="module")
def records(finished: Path) -> list[Record]:
    found = read_records(RunFolder(root=finished / "run"))
    assert {record.outcome.state for record in found} >= {"trained", "over_budget"}
    return found


@pytest.fixture(scope="module")
def lines(finished: Path) -> list[bytes]:
    return (finished / "run" / "study.journal").read_bytes().splitlines(keepends=True)


def opened(
    parts: StudyParts, records: list[Record], root: Path, text: bytes | None, *, begun_as: str | None = None
) -> Repaired:
    """Open the journal of a run with this text. begun_as: digest of another study file at its start."""
    root.mkdir(exist_ok=True)
    if text is not None:
        (root / "study.journal").write_bytes(text)
    identity = study_identity(
        parts.spec, space_hash=parts.space.source_hash, data_fingerprint=parts.dataset.fingerprint
    )
    return JournalKeeper(
        folder=RunFolder(root=root),
        spec=parts.spec,
        task=parts.dataset.task,
        space=parts.space.suggest,
        identity=identity,
        identity_at_start=begun_as or digest_of_values(identity),
        records=records,
    ).open()


def as_optuna_reads(root: Path) -> list[optuna.trial.FrozenTrial]:
    """All trials, by Optuna's own backend."""
    storage = JournalStorage(JournalFileBackend(str(root / "study.journal")))
    return optuna.load_study(study_name="tiny", storage=storage).get_trials(deepcopy=False)


def differences(parts: StudyParts, records: list[Record], root: Path) -> list[str | None]:
    """How the stored trials of the records differ from the records."""
    trials, task, space = as_optuna_reads(root), parts.dataset.task, parts.space.suggest
    return [
        difference(trials[each.trial], told_trial(each, parts.spec, task=task, space=space), each, parts.spec)
        for each in records
    ]


def flip(line: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(line) - 1)
    return line[:place] + bytes([line[place] ^ 1 << chance.randrange(8)]) + line[place + 1 :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "a flipped bit": flip,
    "a cut line": lambda line, chance: line[: len(line) // 2] + b"\n",
    "a lost end of a line": lambda line, chance: line[: len(line) // 2],
    "null bytes": lambda line, chance: b"\0" * len(line) + b"\n",
    "a lost line": lambda line, chance: b"",
    "a doubled line": lambda line, chance: line + line,
    "deep JSON": lambda line, chance: b"[" * 100_000 + b"\n",
    "a huge number": lambda line, chance: line.replace(b'_id":', b'_id":' + b"9" * 5000, 1),
    "no number": lambda line, chance: line.replace(b'_id":', b'_id":NaN,"other":', 1),
    "another figure": lambda line, chance: line.replace(b"0.", b"1.", 1),
    "another number": lambda line, chance: line.replace(b":1,", b":2,", 1),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_after_any_damaged_line_all_finished_trials_are_as_in_their_records(
    kind: str, parts: StudyParts, records: list[Record], lines: list[bytes], tmp_path: Path
) -> None:
    chance, silent = random.Random(kind), 0
    for number in range(chance.randrange(8), len(lines), 8):
        root = tmp_path / str(number)
        damaged = [*lines[:number], DAMAGES[kind](lines[number], chance), *lines[number + 1 :]]
        found = opened(parts, records, root, b"".join(damaged))
        assert differences(parts, records, root) == [None] * len(records), number
        if found.notice is None:
            silent += 1
            assert not list(root.glob("*.damaged-*"))
        else:
            assert "\n" not in found.notice and found.notice.endswith("the old one is study.journal.damaged-1")
            assert (root / "study.journal.damaged-1").read_bytes() == b"".join(damaged)
            assert opened(parts, records, root, None).notice is None, "repaired again"
    if kind in ("a cut line", "null bytes", "deep JSON"):
        assert silent == 0


def test_two_lines_in_the_wrong_order_are_repaired(
    parts: StudyParts, records: list[Record], lines: list[bytes], tmp_path: Path
) -> None:
    for number in range(0, len(lines) - 1, 4):
        root = tmp_path / str(number)
        swapped = [*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]]
        opened(parts, records, root, b"".join(swapped))
        assert differences(parts, records, root) == [None] * len(records)


@pytest.mark.parametrize("text", [None, b"", b"\0" * 4096, b"\n", b"one", b"{}\n", b"[1]\n", b"\xff\xfe\n"])
def test_a_lost_journal_is_made_from_the_records(
    text: bytes | None, parts: StudyParts, records: list[Record], tmp_path: Path
) -> None:
    found = opened(parts, records, tmp_path / "run", text)
    assert found.notice is not None and f"with {len(records)} finished trials from their records" in found.notice
    assert differences(parts, records, tmp_path / "run") == [None] * len(records)
    assert (tmp_path / "run" / "study.journal.damaged-1").exists() is bool(text)


def changed(line: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    operation = json.loads(line)
    change(operation)
    return json.dumps(operation).encode() + b"\n"


def line_of(lines: list[bytes], name: str, trial: int | None = 0) -> int:
    """The number of the last line that sets an attribute, a parameter or the state of a trial."""
    found = [
        n
        for n, line in enumerate(lines)
        if name in line.decode() and (trial is None or f'"trial_id":{trial}' in line.decode())
    ]
    return found[-1]


CHANGES: list[tuple[str, int | None, Callable[[dict[str, Any]], None], str]] = [
    ('"param_name":"width_multiplier"', 0, lambda line: line.update(param_value_internal=2), "trial 0: parameters"),
    (
        '"param_name":"width_multiplier"',
        0,
        lambda line: line.update(distribution=line["distribution"].replace("0.5", "0.6")),
        "trial 0: parameters",
    ),
    ('"state":1', 0, lambda line: line["values"].__setitem__(1, 0.001), "trial 0: values"),
    ('"state":1', 0, lambda line: line["values"].pop(), "trial 0: values"),
    ('"state":1', 0, lambda line: line.update(state=3, values=None), "trial 0: state"),
    (
        '"constraints:',
        1,
        lambda line: line["system_attr"].update({"constraints:size_bytes <= 60000": -1}),
        "trial 1: constraints",
    ),
    ('"candidate"', 2, lambda line: line["user_attr"]["candidate"].update(round_to=8), "trial 2: attribute candidate"),
    ('"model"', 0, lambda line: line["user_attr"].update(model="trials/1/model.onnx"), "trial 0: attribute model"),
    ('"measured"', 0, lambda line: line["user_attr"]["measured"].update(size_bytes=1), "trial 0: attribute measured"),
    (
        '"learning_curve"',
        0,
        lambda line: line["user_attr"]["learning_curve"]["points"].pop(),
        "trial 0: attribute learning_curve",
    ),
    ('"directions"', None, lambda line: line.update(directions=[1, 1, 1]), "the directions"),
    ('"directions"', None, lambda line: line.update(study_name="other"), "no study tiny"),
    (
        '"study:metric_names"',
        None,
        lambda line: line["system_attr"].update({"study:metric_names": ["a", "b", "c"]}),
        "the names of the values",
    ),
    ('"nas_compress":', None, lambda line: line["user_attr"]["nas_compress"].update(seed=5), "the study file"),
]


@pytest.mark.parametrize(("name", "trial", "change", "event"), CHANGES, ids=[event for *_, event in CHANGES])
def test_a_changed_line_is_found_by_the_records(
    name: str,
    trial: int | None,
    change: Callable[[dict[str, Any]], None],
    event: str,
    parts: StudyParts,
    records: list[Record],
    lines: list[bytes],
    tmp_path: Path,
) -> None:
    number = line_of(lines, name, trial)
    text = [*lines[:number], changed(lines[number], change), *lines[number + 1 :]]
    found = opened(parts, records, tmp_path / "run", b"".join(text))
    assert found.notice is not None and event in found.notice
    assert differences(parts, records, tmp_path / "run") == [None] * len(records)


def test_a_trial_without_a_record_is_kept_before_the_damage_and_given_up_after_it(
    parts: StudyParts, records: list[Record], lines: list[bytes], tmp_path: Path
) -> None:
    root = tmp_path / "run"
    opened(parts, records, root, b"".join(lines))
    study = optuna.load_study(study_name="tiny", storage=open_storage(None, root / "study.journal"))
    study.enqueue_trial({"family": "resnet", "width_multiplier": 0.5}, user_attrs={"deaths": 2})
    study.tell(study.ask(), state=TrialState.FAIL)
    study.enqueue_trial({"family": "resnet", "width_multiplier": 1.0})
    count = len(records)
    text = (root / "study.journal").read_bytes()
    for number in (count + 3, count + 4):  # two candidates without an outcome
        (root / "trials" / str(number)).mkdir(parents=True)
    (root / "trials" / str(count + 4) / "model.onnx").touch()
    opened(parts, records, root, text + b"damage\n" + text)
    trials = as_optuna_reads(root)
    states = [trial.state.name for trial in trials[count:]]
    assert states == ["FAIL", "WAITING", "FAIL", "FAIL", "FAIL"]
    assert trials[count + 1].system_attrs["fixed_params"] == {"family": "resnet", "width_multiplier": 1.0}
    assert not (root / "trials" / str(count + 4) / "model.onnx").exists()


def test_figures_measured_again_are_no_contradiction(
    parts: StudyParts, records: list[Record], lines: list[bytes], tmp_path: Path
) -> None:
    again = []
    for record in records:
        assert record.outcome.measured is not None
        measured = replace(record.outcome.measured.with_figures({"latency_ms": 77.0}), latency_noisy=False)
        again.append(replace(record, outcome=replace(record.outcome, measured=measured)))
    assert opened(parts, again, tmp_path / "run", b"".join(lines)).notice is None
    assert opened(parts, again, tmp_path / "lost", None).notice is not None
    told = [trial.values for trial in as_optuna_reads(tmp_path / "lost")]
    assert told == [trial.values for trial in as_optuna_reads(tmp_path / "run")], "values are those of the search"
    earlier = [replace(record, told=None) for record in again]
    assert opened(parts, earlier, tmp_path / "run", None).notice is None


def test_a_record_outside_the_space_stays_a_failed_trial(
    parts: StudyParts, records: list[Record], lines: list[bytes], tmp_path: Path
) -> None:
    strange = [replace(records[0], params={"width": 3}), *records[1:]]
    assert opened(parts, strange, tmp_path / "run", b"".join(lines)).notice is not None
    assert as_optuna_reads(tmp_path / "run")[0].state == TrialState.FAIL
    assert opened(parts, strange, tmp_path / "run", None).notice is None


def test_a_lost_journal_is_not_made_for_another_study_file(
    parts: StudyParts, records: list[Record], lines: list[bytes], tmp_path: Path
) -> None:
    for text in (None, b"damage", b"".join(lines)):
        with pytest.raises(RequestError, match=r"first study file, but this one differs and .*study\.journal is not"):
            opened(parts, records, tmp_path / "run", text, begun_as="0" * 64)
    number = line_of(lines, '"nas_compress":', None)
    other = changed(lines[number], lambda line: line["user_attr"]["nas_compress"].update(seed=5))
    text = b"".join([*lines[:number], other, *lines[number + 1 :]])
    assert opened(parts, records, tmp_path / "run", text, begun_as="0" * 64).notice is None
    assert (tmp_path / "run" / "study.journal").read_bytes() == text, "it is refused later, with the differing keys"


def test_a_trial_number_beyond_the_limit_is_refused(parts: StudyParts, records: list[Record], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"at most 100000 trials, but there is .*trials/999999999"):
        opened(parts, [*records, replace(records[0], trial=999_999_999)], tmp_path / "run", None)


@pytest.mark.parametrize("kind", ["damaged", "lost", "changed"])
def test_the_same_command_goes_on_and_says_so_in_one_line(kind: str, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    root, told = tmp_path / "copy" / "run", Told()
    journal, before = root / "study.journal", read_records(RunFolder(root=root))
    if kind == "lost":
        journal.unlink()
    else:
        old, new = (b'"op_code":5', b'"op_code":x') if kind == "damaged" else (b'"state":1', b'"state":2')
        journal.write_bytes(journal.read_bytes().replace(old, new, 1))
    run_study(tmp_path / "copy" / "study", out=root, trials=7, reporter=told)
    (line,) = [line for line in told.lines if line.startswith("study.journal ")]
    assert "with 6 finished trials from their records" in line and line in (root / "run.log").read_text()
    after = read_records(RunFolder(root=root))
    assert len(after) == 7
    for record, earlier in zip(after, before, strict=False):  # latencies of the front may be measured again
        assert (record.finished_s, record.told, record.files) == (earlier.finished_s, earlier.told, earlier.files)
    again = Told()
    run_study(tmp_path / "copy" / "study", out=root, trials=7, reporter=again)
    assert not [line for line in again.lines if line.startswith("study.journal ")]
