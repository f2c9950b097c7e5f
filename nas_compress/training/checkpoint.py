"""Training state in a file. An interrupted training continues from it with identical bits."""

from __future__ import annotations

import importlib.metadata
import io
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.callbacks import Notice
from nas_compress.errors import DamagedFileError, UnfitCheckpointError, describe
from nas_compress.files import read_sealed_bytes, write_sealed_bytes
from nas_compress.training.random_state import random_states, set_random_states
from nas_compress.training.sparsity import Sparsifier

COST = 0.02
"""Largest share of time spent on writing, relative to the time since the last write."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingState:
    """Everything changed by one call of `train`."""

    learners: nn.Module
    optimizer: torch.optim.Optimizer
    shuffle: torch.Generator
    sparsifier: Sparsifier | None = None

    @property
    def _device(self) -> torch.device:
        return next(self.learners.parameters()).device

    def capture(self, epoch: int, means: Mapping[str, float]) -> dict[str, Any]:
        """Return the state after `epoch` epochs as copies, unaffected by later steps."""
        return {
            "epoch": epoch,
            "means": dict(means),
            "learners": {name: value.detach().clone() for name, value in self.learners.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "shuffle": self.shuffle.get_state(),
            "random": random_states(self._device),
            "sparsifier": None if self.sparsifier is None else self.sparsifier.state(),
        }

    def require_fitting(self, saved: Mapping[str, Any], epochs: int) -> None:
        """Raise ValueError, KeyError or TypeError unless `saved` is a state of this training of `epochs` epochs."""
        if not 1 <= saved["epoch"] <= epochs:
            raise ValueError(f"it has {saved['epoch']} of {epochs} epochs")
        _require_same_shapes(saved["learners"], self.learners.state_dict())
        _require_finite(saved["learners"][name] for name, _ in self.learners.named_parameters())
        if saved["optimizer"] is not None:
            _require_fitting_moments(saved["optimizer"], self.optimizer)
        random = {"shuffle": self.shuffle.get_state(), **random_states(self._device)["torch"]}
        _require_same_shapes({"shuffle": saved["shuffle"], **saved["random"]["torch"]}, random)
        if self.sparsifier is not None:
            self.sparsifier.require_fitting(saved["sparsifier"])

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Restore a captured state in place; see `require_fitting`."""
        self.learners.load_state_dict(saved["learners"])
        if saved["optimizer"] is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
        self.shuffle.set_state(saved["shuffle"])
        set_random_states(saved["random"])
        if self.sparsifier is not None:
            self.sparsifier.set_state(saved["sparsifier"])


@dataclass(kw_only=True, eq=False)
class Checkpoint:
    """Checkpoint of one trial. A trial may call `train` several times; finished calls are stored by their final state.

    path: the file; ignored if it is damaged or of another identity.
    identity: everything that decides the bits of the training, besides the versions of torch and this package.
    notes: returns plain values of the caller to store too; `known` returns them after an interruption.
    notice: receives a line about a damaged file.

    `before_s`: seconds spent by interrupted processes.
    """

    path: Path
    identity: Mapping[str, str | int]
    notes: Callable[[], Mapping[str, Any]] = dict
    notice: Notice = _log.warning
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

    @property
    def reached(self) -> int:
        """Number of finished epochs in the last call of `train` that is stored, 0 without one."""
        last = self._current or (self._ended[-1] if self._ended else None)
        return 0 if last is None else int(last["epoch"])

    def begin(self, state: TrainingState, epochs: int) -> tuple[int, dict[str, float]]:
        """Begin a call of `train`: restore its state and return the number of finished epochs and their terms.

        UnfitCheckpointError, before anything is restored, if the state does not fit a training of `epochs` epochs.
        """
        self._part += 1
        saved = self._ended[self._part] if self._part < len(self._ended) else self._current
        if self._part >= len(self._ended):
            self._current = None
        if saved is None:
            return 0, {}
        try:
            state.require_fitting(saved, epochs)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnfitCheckpointError(f"{self.path} does not fit the training ({describe(error)})") from error
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
            "identity": self._whole_identity,
            "ended": self._ended,
            "current": current,
            "notes": dict(self.notes()),
            "seconds": self.before_s + begun - self._started,
        }  # fmt: skip
        torch.save(values, content)
        write_sealed_bytes(self.path, content.getvalue())
        self._written = time.monotonic()
        self._cost_s = self._written - begun

    def _read(self) -> dict[str, Any] | None:
        """Read the file; None if it is missing, damaged or of another identity."""
        try:
            saved: dict[str, Any] = torch.load(io.BytesIO(read_sealed_bytes(self.path)), weights_only=True)
        except FileNotFoundError:
            return None
        except Exception as error:  # torch raises many types for bytes of another program
            # torch's own text recommends to load the file without care
            known = str(error) if isinstance(error, DamagedFileError) else f"{self.path} holds no state of a training"
            self.notice(f"{known}. The training begins at its first epoch.")
            return None
        return saved if isinstance(saved, dict) and saved.get("identity") == self._whole_identity else None

    @property
    def _whole_identity(self) -> dict[str, str | int]:
        versions = {"torch": str(torch.__version__), "nas_compress": importlib.metadata.version("nas-compress")}
        return {**self.identity, **versions}


def _require_same_shapes(saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    for name in sorted(saved.keys() | wanted.keys()):
        found, expected = ((values[name].shape, values[name].dtype) for values in (saved, wanted))
        if found != expected:
            raise ValueError(f"{name} is {found} instead of {expected}")


def _require_finite(tensors: Iterable[Tensor]) -> None:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise ValueError("a weight is infinite or nan")


def _require_fitting_moments(saved: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Require moments of the optimiser's parameters, which torch does not check."""
    for group, own in zip(saved["param_groups"], optimizer.param_groups, strict=True):
        for number, parameter in zip(group["params"], own["params"], strict=True):
            moments = {name: value for name, value in saved["state"][number].items() if name != "step"}
            _require_same_shapes(moments, dict.fromkeys(("exp_avg", "exp_avg_sq"), parameter))
            _require_finite(moments.values())
