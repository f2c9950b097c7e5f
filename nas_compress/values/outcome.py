"""What came out of one trial, as a value that survives JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate

State = Literal["trained", "over_budget", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The figures of one ONNX file, measured by onnxruntime, on the disk, or on the torch module.

    figures: values by their name in METRICS; training adds those that are not known before it.
    latency_spread: interquartile range of the latency blocks over their median.
    latency_noisy: the machine never reached its fast state while the latency was measured.
    agreement: fraction of samples on which file and torch module agree; max_difference: the largest difference.
    zero_fraction: fraction of zeros among the weights of convolutions and products, None before training.
    float32_latency_ms: latency of the same architecture in float32, None if it was not compared.
    steps: bytes of the network in each storage form of `export.layout.STEPS`, if weights are zero or shared.

    >>> measured = Measured(figures={"latency_ms": 0.2, "size_bytes": 900}, latency_spread=0.0, latency_noisy=False)
    >>> Measured.from_dict(measured.to_dict()) == measured
    True
    """

    figures: Mapping[str, float]
    latency_spread: float
    latency_noisy: bool
    agreement: float | None = None
    max_difference: float | None = None
    zero_fraction: float | None = None
    float32_latency_ms: float | None = None
    steps: Mapping[str, int] = field(default_factory=dict)

    def figure(self, name: str) -> float:
        """One figure by the name of its metric; ValueError if it was not measured."""
        if name not in self.figures:
            raise ValueError(f"{name} was not measured")
        return float(self.figures[name])

    def with_figures(self, figures: Mapping[str, float]) -> Measured:
        """A copy in which these figures are new or replaced."""
        return replace(self, figures={**self.figures, **figures})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the figures next to the other fields."""
        others = asdict(self)
        return {**others.pop("figures"), **others}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measured:
        """The inverse of `to_dict`. Older records write null for a figure that was not measured."""
        own = {item.name for item in fields(cls)}
        figures = {name: value for name, value in values.items() if name not in own and value is not None}
        return cls(figures=figures, **{name: value for name, value in values.items() if name in own})


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
        shipped = self.candidate.precision
        if self.integer_latency_ms is not None:
            shipped = replace(shipped, activation_bits=32)
        return shipped.number_format

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        values = asdict(self)
        values["candidate"] = self.candidate.to_dict()
        values["architecture"] = None if self.architecture is None else self.architecture.to_dict()
        values["measured"] = None if self.measured is None else self.measured.to_dict()
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
            known["measured"] = Measured.from_dict(known["measured"])
        if known.get("architecture") is not None:
            known["architecture"] = Architecture.from_dict(known["architecture"])
        known["curve"] = tuple((int(epoch), float(accuracy)) for epoch, accuracy in known.get("curve", ()))
        return cls(**known)
