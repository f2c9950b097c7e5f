"""What came out of one trial, as a value that survives JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate

State = Literal["trained", "over_budget", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The figures of one ONNX file, each taken from that file by onnxruntime or from the disk.

    accuracy: fraction of the validation split (None before training). latency_ms: batch 1, one thread;
    latency_spread: interquartile range of its blocks over their median; latency_noisy: the machine never showed
    its fast state. size_bytes: the file. agreement: fraction of samples on which file and torch module choose the
    same class; max_difference: the largest difference of a logit. zero_fraction: of the weights of convolutions and
    products (None before training). parameters and macs (a multiply-add is one) are counted on the torch module.
    float32_latency_ms: of the same architecture as a float32 file; front members of fewer bits have it. steps: bytes
    that the same network has in the forms of `export.layout.STEPS`, where its weights have zeros or share values.
    """

    latency_ms: float
    latency_spread: float
    latency_noisy: bool
    size_bytes: int
    parameters: int
    macs: int
    accuracy: float | None = None
    agreement: float | None = None
    max_difference: float | None = None
    zero_fraction: float | None = None
    float32_latency_ms: float | None = None
    steps: Mapping[str, int] = field(default_factory=dict)

    def figure(self, name: str) -> float:
        """One figure by its objective's name; ValueError where it was not measured."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"{name} was not measured")
        return float(value)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One candidate and seed: how the trial ended and what was measured.

    `over_budget` ended before training; `failed` and `stopped` (by the stopping rule, during training) say why in
    `reason`. `control` says which control of pruning it is, if any. `epochs` of `planned_epochs` are the student's own,
    `trainings` the networks that were trained for it (generations, peers), `teacher_epochs` those of assistants and
    ensemble members that this trial was the first to need. `seconds` are per stage, `losses` the mean of each loss term
    over the last epoch. `curve` holds (epoch, validation accuracy of the torch module) a few times on the way and where
    the stopping rule looked: it is for decisions and readers, never a figure of the front. `spoke_at` is the epoch at
    which the rule stopped the trial, or would have stopped one that was trained on to judge the rule.
    `integer_latency_ms`: the file ships with float kernels though the candidate has 8-bit activations, for integer
    kernels took so long.

    >>> outcome = Outcome(candidate=Candidate(family="resnet", depths=(1, 1, 1)), seed=0, state="failed", reason="why")
    >>> Outcome.from_dict(outcome.to_dict()) == outcome
    True
    """

    candidate: Candidate
    seed: int
    state: State
    measured: Measured | None = None
    architecture: Architecture | None = None
    reason: str | None = None
    epochs: int = 0
    trainings: int = 1
    seconds: Mapping[str, float] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    planned_epochs: int = 0
    curve: tuple[tuple[int, float], ...] = ()
    spoke_at: int | None = None
    integer_latency_ms: float | None = None
    teacher_epochs: int = 0

    @property
    def epochs_spent(self) -> int:
        """Epochs of all networks that were trained for the trial: its whole cost in trainings."""
        together = self.candidate.teaching.side_by_side
        earlier = max(0, self.trainings - together) * self.planned_epochs
        return earlier + together * self.epochs + self.teacher_epochs

    @property
    def epochs_saved(self) -> int:
        """Epochs that stopping spared, of the student and the peers that learned beside it."""
        return self.spared(self.epochs) if self.state == "stopped" else 0

    def spared(self, epoch: int) -> int:
        """Epochs that an end after this one spares."""
        return (self.planned_epochs - epoch) * self.candidate.teaching.side_by_side

    @property
    def control(self) -> str:
        """Which control of pruning this trial is: its candidate's."""
        return self.candidate.control

    @property
    def number_format(self) -> str:
        """The numbers that the file computes with, in words: floats where its integer kernels were too slow to ship."""
        shipped = self.candidate
        if self.integer_latency_ms is not None:
            shipped = replace(shipped, activation_bits=32)
        return shipped.number_format

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        values = asdict(self)
        values["candidate"] = self.candidate.to_dict()
        values["architecture"] = None if self.architecture is None else self.architecture.to_dict()
        values["control"] = self.control
        values["epochs_spent"] = self.epochs_spent
        values["number_format"] = self.number_format
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcome:
        """The outcome that `to_dict` described."""
        known = dict(values)
        for derived in ("control", "epochs_spent", "number_format"):
            known.pop(derived, None)
        known["candidate"] = Candidate.from_dict(known["candidate"])
        if known.get("measured") is not None:
            known["measured"] = Measured(**known["measured"])
        if known.get("architecture") is not None:
            known["architecture"] = Architecture.from_dict(known["architecture"])
        known["curve"] = tuple((int(epoch), float(accuracy)) for epoch, accuracy in known.get("curve", ()))
        return cls(**known)
