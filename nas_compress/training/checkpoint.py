"""Training state in a file. An interrupted training continues from it with identical bits."""

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
"""Largest share of time spent on writing, relative to the time since the last write."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingState:
    """Everything changed by one call of `train`."""

    learners: nn.Module
    optimizer: torch.optim.Optimizer
    shuffle: torch.Generator
    sparsifier: Sparsifier | None = None

    def capture(self, epoch: int, means: Mapping[str, float]) -> dict[str, Any]:
        """Return the state after `epoch` epochs as copies, unaffected by later steps."""
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
        """Restore a captured state in place."""
        self.learners.load_state_dict(saved["learners"])
        if saved["optimizer"] is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
        self.shuffle.set_state(saved["shuffle"])
        torch.set_rng_state(saved["random"])
        if self.sparsifier is not None:
            self.sparsifier.set_state(saved["sparsifier"])


@dataclass(kw_only=True, eq=False)
class Checkpoint:
    """Checkpoint of one trial. A trial may call `train` several times; finished calls are stored by their final state.

    path: the file; ignored if it is unreadable or of another identity.
    identity: everything that decides the bits of the training.
    notes: returns plain values of the caller to store too; `known` returns them after an interruption.

    `before_s`: seconds spent by interrupted processes.
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
        """Begin a call of `train`: restore its state and return the number of finished epochs and their terms."""
        self._part += 1
        saved = self._ended[self._part] if self._part < len(self._ended) else self._current
        if self._part >= len(self._ended):
            self._current = None
        if saved is None:
            return 0, {}
        state.restore(saved)
        return int(saved["epoch"]), dict(saved["means"])

    def epoch(self, state: TrainingState, done: int, means: Mapping[str, float], *, last: bool) -> None:
        """Store a finished epoch if writing is cheap enough; the last epoch is kept for the next write."""
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
        except Exception:  # missing, cut off or of another version: torch raises many types; train from the start
            return None
        return saved if isinstance(saved, dict) and saved.get("identity") == dict(self.identity) else None


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)
