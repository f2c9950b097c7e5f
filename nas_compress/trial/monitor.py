"""What is seen of a trial while it trains, and who may end it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from nas_compress.data.dataset import Split
from nas_compress.training.validate import module_accuracy
from nas_compress.values.outcome import Measured


class Judge(Protocol):
    """Decides during training whether a trial goes on."""

    def begin(self, cost: Measured, planned: int) -> None:
        """Training begins: the figures of the untrained file, and the epochs of a full training."""

    def wants(self, epoch: int) -> bool:
        """Whether the accuracy after this epoch is asked for."""

    def verdict(self, epoch: int, accuracy: float) -> str | None:
        """Why the trial should end here, or None."""


LOOKS = 5
"""Validations during a training, for its learning curve; together they cost a few percent of it at most."""


class Sight:
    """What is seen of a training: its accuracy a few times on the way, and wherever the judge asks for it."""

    def __init__(self, *, judge: Judge | None, shadow: bool, validation: Split) -> None:
        self._judge, self._shadow, self._validation = judge, shadow, validation
        self.curve: list[tuple[int, float]] = []
        self._looks: frozenset[int] = frozenset()
        self.spoke_at: int | None = None
        self.reason: str | None = None

    def begin(self, cost: Measured, planned: int) -> None:
        """Training begins."""
        self._looks = frozenset(-(-planned * look // LOOKS) for look in range(1, LOOKS + 1))
        if self._judge is not None:
            self._judge.begin(cost, planned)

    def notes(self) -> dict[str, Any]:
        """What was seen so far, in plain values; `recall` takes them back."""
        return {"curve": self.curve, "spoke_at": self.spoke_at, "reason": self.reason}

    def recall(self, notes: Mapping[str, Any]) -> None:
        """Go on after what a killed process saw; the judge, who does not know it, is told, and spoke on it already."""
        for epoch, accuracy in notes.get("curve", ()):
            self.curve.append((epoch, accuracy))
            if self._judge is not None and self._judge.wants(epoch):
                self._judge.verdict(epoch, accuracy)
        self.spoke_at, self.reason = notes.get("spoke_at"), notes.get("reason")

    @property
    def stopped(self) -> bool:
        """Whether the judge ended the trial."""
        return self.spoke_at is not None and not self._shadow

    def epoch(self, network: nn.Module, done: int) -> bool:
        """An epoch is over; True where the trial ends here."""
        asked = self._judge is not None and self._judge.wants(done)
        if asked or done in self._looks:
            self.curve.append((done, module_accuracy(network, self._validation)))
        if self._judge is None or not asked:
            return False
        reason = self._judge.verdict(*self.curve[-1])
        if reason is not None and self.spoke_at is None:
            self.spoke_at, self.reason = done, reason
        return self.stopped
