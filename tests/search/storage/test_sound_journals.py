"""The journal of a run that stopped trials, in any way, agrees with its records: `run` leaves it as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from running import Told, write_study

REWARD = "\n[search.reward]\ntarget = 1.0\n"

STUDIES = {
    "a rule": ('sampler = "random"\nstop = "behind"', ""),
    "a rule in the shadow": ('sampler = "random"\nstop = "shadow"', ""),
    "a reward": ('sampler = "random"\nstop = "moasha"', REWARD),
    "a pruner": ('sampler = "random"\nstop = "median"\nstartup_trials = 1', REWARD),
    "the default sampler": ('sampler = "ehvi"\nstop = "none"', ""),
    "a budget against the teacher": (
        'sampler = "random"\nstop = "none"',
        "\n[budgets.size_bytes]\nfraction_at_most = 0.5\n",
    ),
}


@pytest.mark.parametrize(
    "kind", [kind if kind == "a pruner" else pytest.param(kind, marks=pytest.mark.slow) for kind in STUDIES]
)
def test_a_journal_that_agrees_with_the_records_is_left_as_it_is(kind: str, tmp_path: Path) -> None:
    search, extra = STUDIES[kind]
    changes = ('sampler = "random"', search), ("\nepochs = 1\n", "\nepochs = 3\n"), ("= 200", "= 64")
    study, told = write_study(tmp_path / "study", *changes, extra=extra), Told()
    run_study(study, out=tmp_path / "run", trials=4)
    run_study(study, out=tmp_path / "run", trials=5, reporter=told)
    run_study(study, out=tmp_path / "run", trials=5, reporter=told)
    assert not [line for line in told.lines if "study.journal" in line]
    assert not list((tmp_path / "run").glob("*.damaged-*"))
    assert len(read_records(RunFolder(root=tmp_path / "run"))) == 5
