"""A study under a memory limit: larger trials fail, the others are trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from running import shared_cache, start, write_study

HUGE = '''"""One of two widths has a first kernel of 18 GB."""
from nas_compress.values.candidate import Candidate


def suggest(trial):
    width = trial.suggest_categorical("width_multiplier", [0.5, 1400.0])
    bits = trial.suggest_categorical("weight_bits", [32, 16])
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=width, weight_bits=bits)
'''


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_candidate_that_needs_more_memory_than_allowed_fails_and_the_study_continues(
    workers: int, tmp_path: Path
) -> None:
    start_points = ('sampler = "random"', 'sampler = "random"\nstart = ["smallest", "largest"]')
    teacher = ("widths = [8, 16, 16]", "widths = [16, 32, 64]")
    study = write_study(tmp_path / "study", ("trials = 3", "trials = 4"), start_points, teacher, space=HUGE)
    root, log = tmp_path / "run", tmp_path / "log"
    words = ["run", study, "--out", root, "--workers", workers]
    run = start(words, cwd=tmp_path, cache=shared_cache(), log=log, memory=16 * 2**30)
    run.join(300)
    assert run.exitcode == 0, log.read_text()
    records = read_records(RunFolder(root=root))
    failed = [record for record in records if record.params["width_multiplier"] == 1400.0]
    assert len(records) == 4 and failed and len(failed) < 4
    for record in records:
        assert record.outcome.state == ("failed" if record in failed else "trained")
    for record in failed:
        assert str(record.outcome.reason).startswith("the trial needs more memory than there is: RuntimeError: ")
