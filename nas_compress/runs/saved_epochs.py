"""Epochs saved by early stopping, and the cost of a rule in the shadow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_compress.runs.front import Front
from nas_compress.runs.records import Record


@dataclass(frozen=True, kw_only=True)
class Savings:
    """Epochs of all networks (students, generations, peers, assistants) over all trials without repeats.

    stopped: number of stopped trials; they saved `epochs_saved` epochs in addition to the `epochs_trained`.
    would_stop: number of trials to be stopped by a rule in the shadow; this would save `epochs_would_save` epochs.
    members_lost: members of the front among these trials.
    """

    stopped: int = 0
    epochs_trained: int = 0
    epochs_saved: int = 0
    would_stop: int = 0
    epochs_would_save: int = 0
    members_lost: tuple[int, ...] = ()

    def __str__(self) -> str:
        text = f"{self.epochs_trained} epochs trained"
        if self.stopped:
            text += f", {self.epochs_saved} saved by stopping {self.stopped} trials"
        if self.would_stop:
            text += (
                f"; the rule in the shadow would have stopped {self.would_stop} trials, saved "
                f"{self.epochs_would_save} epochs and cost {len(self.members_lost)} members of the front"
            )
        return text


def savings(records: Sequence[Record], front: Front) -> Savings:
    """Count the savings over the records of a run."""
    own = [record for record in records if record.repeats is None]
    watched = [record for record in own if record.outcome.state == "trained" and record.outcome.stopped_at is not None]
    members = {point.trial for point in front.members}
    return Savings(
        stopped=sum(record.outcome.state == "stopped" for record in own),
        epochs_trained=sum(record.outcome.epochs_spent for record in own),
        epochs_saved=sum(record.outcome.epochs_saved for record in own),
        would_stop=len(watched),
        epochs_would_save=sum(r.outcome.epochs_after(r.outcome.stopped_at or 0) for r in watched),
        members_lost=tuple(record.trial for record in watched if record.trial in members),
    )
