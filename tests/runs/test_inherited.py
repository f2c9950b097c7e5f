from __future__ import annotations

from nas_compress.runs.inherited import inherited_trials
from nas_compress.runs.records import Record
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Outcome


def record(trial: int, init: str) -> Record:
    candidate = Candidate(family="resnet", depths=(1, 1, 1), init=init)
    outcome = Outcome(candidate=candidate, seed=0, state="failed", reason="why")
    return Record(trial=trial, params={}, outcome=outcome, finished_s=0.0, model="")


def test_members_that_inherit_are_named_in_order() -> None:
    records = [record(3, "inherit"), record(1, "inherit"), record(2, "scratch"), record(0, "inherit")]
    assert inherited_trials(records, [1, 2, 3, "teacher"]) == [1, 3]
