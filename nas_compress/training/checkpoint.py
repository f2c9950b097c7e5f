"""A training's state after its last epoch, in a file: what was killed goes on there, to the same bits."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas_compress.files import write_atomically
from nas_compress.training.sparsity import Sparsifier

COST = 0.02
"""Writing takes at most this part of the time that passed since the last writing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingState:
    """All that one call of `train` changes."""

    learners: nn.Module
    optimizer: torch.optim.Optimizer
    shuffle: torch.Generator
    sparsifier: Sparsifier | None = None

    def capture(self, epoch: int, means: Mapping[str, float]) -> dict[str, Any]:
        """The state after so many epochs, as values that later steps leave alone."""
        return {
            "epoch": epoch,
            "means": dict(means),
            "learners": {name: value.detach().clone() for name, value in self.learners.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "shuffle": self.shuffle.get_state(),
            "random": torch.get_rng_state(),
            "sparsifier": None if self.sparsifier is None else self.sparsifier.state(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Bring everything to a captured state, in place."""
        self.learners.load_state_dict(saved["learners"])
        if saved["optimizer"] is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
        self.shuffle.set_state(saved["shuffle"])
        torch.set_rng_state(saved["random"])
        if self.sparsifier is not None:
            self.sparsifier.set_state(saved["sparsifier"])


@dataclass(kw_only=True, eq=False)
class Checkpoint:
    """The file of one trial, which may call `train` several times: of parts that ended it holds their end.

    A file of another `identity` (what the bits depend on) or one that cannot be read counts as none. `notes` are the
    caller's own plain values, written along and given back in `known`; `before_s` are the seconds spent by the
    processes that were killed.
    """

    path: Path
    identity: Mapping[str, str | int]
    notes: Callable[[], Mapping[str, Any]] = dict
    known: Mapping[str, Any] = field(default_factory=dict, init=False)
    before_s: float = field(default=0.0, init=False)
    _ended: list[dict[str, Any]] = field(default_factory=list, init=False)
    _current: dict[str, Any] | None = field(default=None, init=False)
    _part: int = field(default=-1, init=False)

    def __post_init__(self) -> None:
        saved = self._read()
        if saved is not None:
            self._ended, self._current = saved["ended"], saved["current"]
            self.known, self.before_s = saved["notes"], saved["seconds"]
        self._started = self._written = time.monotonic()
        self._cost_s = 0.0

    def begin(self, state: TrainingState) -> tuple[int, dict[str, float]]:
        """A call of `train` begins: its epochs that are done already, whose end is restored, and their terms."""
        self._part += 1
        saved = self._ended[self._part] if self._part < len(self._ended) else self._current
        if self._part >= len(self._ended):
            self._current = None
        if saved is None:
            return 0, {}
        state.restore(saved)
        return int(saved["epoch"]), dict(saved["means"])

    def epoch(self, state: TrainingState, done: int, means: Mapping[str, float], *, last: bool) -> None:
        """An epoch is over; it is written where that is cheap, and kept for the next writing where it is the last."""
        due = time.monotonic() - self._written >= self._cost_s / COST
        if not due and not last:
            return
        saved = state.capture(done, means)
        if last:
            self._ended.append(saved | {"optimizer": None})
        if due:
            self._write(None if last else saved)

    def _write(self, current: dict[str, Any] | None) -> None:
        begun = time.monotonic()
        content, values = io.BytesIO(), {
            "identity": dict(self.identity),
            "ended": self._ended,
            "current": current,
            "notes": dict(self.notes()),
            "seconds": self.before_s + begun - self._started,
        }  # fmt: skip
        torch.save(values, content)
        write_atomically(self.path, lambda path: _fill(path, content.getvalue()))
        self._written = time.monotonic()
        self._cost_s = self._written - begun

    def _read(self) -> dict[str, Any] | None:
        try:
            saved: dict[str, Any] = torch.load(self.path, weights_only=True)
        except Exception:  # none, torn or of another version: torch raises many kinds, and training afresh is right
            return None
        return saved if isinstance(saved, dict) and saved.get("identity") == dict(self.identity) else None


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)
