"""Members whose weights or features have another origin than their own training by the study's teacher."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from nas_compress.runs.records import Record
from nas_compress.values.candidate import Candidate

INHERITED = "its training began with the teacher's weights (init = inherit), not from scratch"
PRETRAINED = "its training began with the weights of the pretrained encoder (init = inherit), not from scratch"
"""Notes on such a member."""


def origin_of(candidate: Candidate) -> str:
    """Return the origin of a candidate's weights and body in words; empty for training from scratch."""
    note, rounds = candidate.teaching.note, candidate.pruning.rounds
    started = PRETRAINED if note else INHERITED
    cut = f"cut in {rounds} steps while it learned, without masked words" if rounds > 1 else ""
    return "; ".join(filter(None, [started if candidate.pruning.init == "inherit" else "", cut, note]))


def origin_notes(records: Sequence[Record], members: Collection[int | str]) -> Mapping[str, list[int]]:
    """Return the notes on members, each with the numbers of its trials, in order."""
    notes: dict[str, list[int]] = {}
    for record in sorted((each for each in records if each.trial in members), key=lambda each: each.trial):
        if note := origin_of(record.outcome.candidate):
            notes.setdefault(note, []).append(record.trial)
    return notes
