"""Members whose training began with the teacher's weights."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nas_compress.runs.records import Record

INHERITED = "its training began with the teacher's weights (init = inherit), not from scratch"
"""Note on such a member."""


def inherited_trials(records: Sequence[Record], members: Collection[int | str]) -> list[int]:
    """Return the numbers of the members that inherited weights, in order."""
    own = (record for record in records if record.trial in members)
    return sorted(record.trial for record in own if record.outcome.candidate.pruning.init == "inherit")
