"""What early stopping saved in a run, and what it would have cost one that only watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_compress.runs.front import Front
from nas_compress.runs.records import Record


@dataclass(frozen=True, kw_only=True)
class Savings:
    """Epochs of all networks (students, generations, peers, assistants) over the trials that did not repeat another.

    `stopped` trials spared `epochs_saved` epochs beside the `epochs_trained`. Where the rule only watched, it would
    have stopped `would_stop` trials, spared `epochs_would_save`, and cost the front its members `members_lost`.
    """

    stopped: int = 0
    epochs_trained: int = 0
    epochs_saved: int = 0
    would_stop: int = 0
    epochs_would_save: int = 0
    members_lost: tuple[int, ...] = ()

    def __str__(self) -> str:
        told = f"{self.epochs_trained} epochs trained"
        if self.stopped:
            told += f", {self.epochs_saved} saved by stopping {self.stopped} trials"
        if self.would_stop:
            told += (
                f"; the rule in the shadow would have stopped {self.would_stop} trials, saved "
                f"{self.epochs_would_save} epochs and cost {len(self.members_lost)} members of the front"
            )
        return told


def savings(records: Sequence[Record], front: Front) -> Savings:
    """Count over the records of a run."""
    own = [record for record in records if record.repeats is None]
    watched = [record for record in own if record.outcome.state == "trained" and record.outcome.spoke_at is not None]
    members = {point.trial for point in front.members}
    return Savings(
        stopped=sum(record.outcome.state == "stopped" for record in own),
        epochs_trained=sum(record.outcome.epochs_spent for record in own),
        epochs_saved=sum(record.outcome.epochs_saved for record in own),
        would_stop=len(watched),
        epochs_would_save=sum(r.outcome.spared(r.outcome.spoke_at or 0) for r in watched),
        members_lost=tuple(record.trial for record in watched if record.trial in members),
    )
