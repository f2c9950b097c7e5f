"""A run has the same bits however often it is killed, and with any cache."""

from __future__ import annotations

import hashlib
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dying import Death, run_and_die
from nas_compress.files import read_json
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from running import write_study

EPOCHS = 2

SPACE = '''"""Students with every source of random numbers, of the teacher or of its assistant."""
from nas_compress.values.candidate import Candidate, LossTerm, Teaching


def suggest(trial):
    """Propose one student."""
    assisted = trial.suggest_categorical("assisted", [False, True])
    names = ("cross_entropy", "kd", "permuted_kd", "fitnet")
    return Candidate(
        family="resnet",
        depths=(1, 1, 1),
        width_multiplier=0.5,
        losses=tuple(LossTerm(name=name, weight=0.3) for name in names),
        teaching=Teaching(teacher="assistant") if assisted else Teaching(),
    )
'''

CHANGES = (
    ("trials = 3", "trials = 2"),
    ("widths = [8, 16, 16]\nepochs = 2", f"widths = [16, 32, 32]\nepochs = {EPOCHS}"),
    ("[training]\nepochs = 1", f"[training]\nepochs = {EPOCHS}"),
    (
        'sampler = "random"',
        'sampler = "random"\nenqueue = [{assisted = true}, {assisted = false}]',
    ),
)

SPENT = re.compile("latency|second|finished_s|epochs_spent|teacher_epochs|noisy|version|files|samples_per_s")
"""Figures of the machine and of the work that a process really did."""


def run(place: Path, cache: Path, death: Death | None = None) -> int:
    """Run the study in `place`, whose run folder is continued."""
    study = write_study(place / "study", *CHANGES, space=SPACE)
    return run_and_die(["run", study], death, cwd=place, cache=cache, log=place / "log")


def without_spent(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: without_spent(value) for key, value in values.items() if not SPENT.search(key) and key != "sha256"}
    return [without_spent(value) for value in values] if isinstance(values, list) else values


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def bits(place: Path) -> dict[str, Any]:
    """Everything that must not depend on the history of a run."""
    root = place / "runs" / "tiny"
    records = read_records(RunFolder(root=root))
    teacher = root / "teacher"
    return {
        # an interrupted candidate is tried after the queued start points
        "students": {
            record.params["assisted"]: (without_spent(record.outcome.to_dict()), digest(root / record.model))
            for record in records
        },
        "teacher": [digest(teacher / name) for name in ("model.onnx", "teacher.safetensors", "teacher.json")],
        "baseline": without_spent(read_json(teacher / "outcome.json")),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The cache and the bits of a run without interruption."""
    place = tmp_path_factory.mktemp("whole")
    assert run(place, place / "cache") == 0, (place / "log").read_text()
    found = bits(place)
    assert list(found["students"]) == [True, False]
    return place / "cache", found


@pytest.mark.slow
def test_another_run_with_the_same_cache_has_the_same_bits(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    cache, expected = whole
    assert run(tmp_path, cache) == 0
    assert bits(tmp_path) == expected


EPOCH = [
    Death(module="nas_compress.training.loop", function="_summary", call=call) for call in range(1, 4 * EPOCHS + 1)
]
"""The epochs of the teacher, of the assistant in the first trial, of its student, and of the second student."""

DEATHS = [
    *EPOCH,
    Death(module="nas_compress.teacher.store", function="write_tensors"),
    Death(module="nas_compress.teacher.obtain", function="stored_or_trained"),
    Death(module="nas_compress.teacher.logits_cache", function="write_tensors"),
    Death(module="nas_compress.teacher.logits_cache", function="write_tensors", call=2),
    Death(module="nas_compress.teacher.derived", function="stored_or_trained"),
    Death(module="nas_compress.search.setup", function="write_file"),
    Death(module="nas_compress.search.setup", function="write_baseline"),
    Death(module="nas_compress.training.checkpoint", function="write_sealed_bytes", call=1),
    Death(module="nas_compress.training.checkpoint", function="write_sealed_bytes", call=3),
    *(
        Death(module=module, function=function, call=trial)
        for module, function in (
            ("nas_compress.trial.run", "write_file"),
            ("nas_compress.trial.run", "measure_file"),
            ("nas_compress.search.ask_and_tell", "write_record"),
            ("nas_compress.search.ask_and_tell", "tell"),
        )
        for trial in (1, 2)
    ),
]

QUICK = (Death(module="nas_compress.teacher.obtain", function="stored_or_trained"), EPOCH[3 * EPOCHS - 1])
"""After the teacher, whose answers another process then computes, and in the last epoch of the last trial."""


def require_same_bits(deaths: Sequence[Death], whole: tuple[Path, dict[str, Any]], place: Path) -> None:
    """Kill a run with a cache of its own at each of the places, finish it, and compare it."""
    for death in deaths:
        assert run(place, place / "cache", death) == -signal.SIGKILL, (place / "log").read_text()
    assert run(place, place / "cache") == 0, (place / "log").read_text()
    assert bits(place) == whole[1]


def test_a_run_killed_twice_ends_with_the_same_bits(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    require_same_bits(QUICK, whole, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("death", DEATHS, ids=str)
def test_a_run_killed_anywhere_ends_with_the_same_bits(
    death: Death, whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    require_same_bits([death], whole, tmp_path)
