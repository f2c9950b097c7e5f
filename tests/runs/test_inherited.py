from __future__ import annotations

from nas_compress.runs.inherited_weights import INHERITED, PRETRAINED, origin_notes
from nas_compress.runs.records import Record
from nas_compress.values.candidate import Candidate, LossTerm, Teaching
from nas_compress.values.outcome import Outcome


def record(trial: int, init: str, teaching: Teaching | None = None) -> Record:
    losses = (LossTerm(name="task_loss"), LossTerm(name="sentence_embedding"))
    candidate = Candidate(family="encoder", depths=(1,), init=init, losses=losses, teaching=teaching)
    outcome = Outcome(candidate=candidate, seed=0, state="failed", reason="why")
    return Record(trial=trial, params={}, outcome=outcome, finished_s=0.0, model="")


def test_members_that_inherit_are_named_in_order() -> None:
    records = [record(3, "inherit"), record(1, "inherit"), record(2, "scratch"), record(0, "inherit")]
    assert origin_notes(records, [1, 2, 3, "teacher"]) == {INHERITED: [1, 3]}


def test_task_agnostic_members_say_what_learned_from_labels() -> None:
    tuned, frozen = (Teaching(teacher="task_agnostic", body=body) for body in ("tuned", "frozen"))
    found = origin_notes([record(0, "inherit", frozen), record(1, "scratch", tuned)], [0, 1])
    body = "its body learned from the pretrained encoder without labels"
    assert found == {
        f"{PRETRAINED}; {body}; then the head alone learned from labels": [0],
        f"{body}; then the whole network learned from labels": [1],
    }
