"""Learning curve and early stopping of a training in progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from nas_compress.data.dataset import Split
from nas_compress.tasks.task import Task
from nas_compress.training.validate import evaluate
from nas_compress.values.outcome import Measured


class Stopper(Protocol):
    """Decides during training if a trial stops early."""

    def begin(self, cost: Measured, planned: int) -> None:
        """Prepare for a training with the untrained file's figures and the planned number of epochs."""

    def wants(self, epoch: int) -> bool:
        """Return True if `stop_reason` needs the accuracy after this epoch."""

    def stop_reason(self, epoch: int, accuracy: float) -> str | None:
        """Why the trial should stop after this epoch, or None."""


VALIDATIONS = 5
"""Validations per training for its learning curve. Together they cost at most a few percent of the training."""


class Monitor:
    """Validate a network during its training and ask the stopper after the epochs it wants.

    stopper: None trains to the end. shadow: record the decision of the stopper, but do not stop.
    """

    def __init__(self, *, stopper: Stopper | None, shadow: bool, validation: Split, task: Task) -> None:
        self._stopper, self._shadow, self._validation, self._task = stopper, shadow, validation, task
        self.curve: list[tuple[int, float]] = []
        self._validated: frozenset[int] = frozenset()
        self.stopped_at: int | None = None
        self.reason: str | None = None

    def begin(self, cost: Measured, planned: int) -> None:
        """Prepare for a training of `planned` epochs."""
        self._validated = frozenset(-(-planned * part // VALIDATIONS) for part in range(1, VALIDATIONS + 1))
        if self._stopper is not None:
            self._stopper.begin(cost, planned)

    def notes(self) -> dict[str, Any]:
        """The state as plain values for `restore`."""
        return {"curve": self.curve, "spoke_at": self.stopped_at, "reason": self.reason}

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Restore the state of an interrupted process and replay its curve to the stopper.

        Past decisions are not repeated.
        """
        for epoch, accuracy in notes.get("curve", ()):
            self.curve.append((epoch, accuracy))
            if self._stopper is not None and self._stopper.wants(epoch):
                self._stopper.stop_reason(epoch, accuracy)
        self.stopped_at, self.reason = notes.get("spoke_at"), notes.get("reason")

    @property
    def stopped(self) -> bool:
        """True if the stopper ended the trial."""
        return self.stopped_at is not None and not self._shadow

    def epoch(self, network: nn.Module, done: int) -> bool:
        """Validate after epoch `done` if it is due; return True if the trial stops here."""
        asked = self._stopper is not None and self._stopper.wants(done)
        if asked or done in self._validated:
            self.curve.append((done, self._accuracy(network)))
        if self._stopper is None or not asked:
            return False
        reason = self._stopper.stop_reason(*self.curve[-1])
        if reason is not None and self.stopped_at is None:
            self.stopped_at, self.reason = done, reason
        return self.stopped

    def _accuracy(self, network: nn.Module) -> float:
        """The task's primary metric on the validation split."""
        return evaluate(network, self._validation, self._task)[self._task.metrics[0]]
