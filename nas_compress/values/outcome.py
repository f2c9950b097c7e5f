"""The outcome of a trial and the figures of its file, as values for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import nan
from typing import Any, Literal

from nas_compress.errors import RequestError
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate
from nas_compress.values.exits.figures import ExitFigures, OperatingPoint
from nas_compress.values.metrics.table import METRICS, Budget, figures_apart
from nas_compress.values.precision import with_float32

State = Literal["trained", "over_budget", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The figures of one ONNX file, measured by onnxruntime, on the disk, or on the torch module.

    figures: values by their name in METRICS; training adds the metrics not known before it.
    latency_spread: interquartile range of the latency blocks over their median.
    latency_noisy: the machine never reached its fast state while the latency was measured.
    device_spreads: as `latency_spread`, by named device of the study.
    noisy_devices: named devices with a noisy latency.
    device_agreements: fraction of samples with the answer of onnxruntime, by device with another runtime.
    agreement: fraction of samples on which file and torch module agree; max_difference: the largest difference.
    zero_fraction: fraction of zeros among the weights of convolutions and products, None before training.
    float32_fraction: fraction of these weights in tensors of 32-bit floats, None in older records.
    float32_latency_ms: latency of the same architecture in float32, None if it was not compared.
    steps: bytes of the network in each storage form of `export.layout.STEPS`, if weights are zero or shared.
    confusion: answers of the file by label on the validation split, see `measurement.confusion`. Empty before training,
    in older records, and for tasks without classes or with more than 100.
    exits: cost and use of early exits, None without them.

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
    float32_fraction: float | None = None
    float32_latency_ms: float | None = None
    steps: Mapping[str, int] = field(default_factory=dict)
    confusion: tuple[str, ...] = ()
    exits: ExitFigures | None = None
    device_spreads: Mapping[str, float] = field(default_factory=dict)
    noisy_devices: tuple[str, ...] = ()
    device_agreements: Mapping[str, float] = field(default_factory=dict)

    def figure(self, name: str) -> float:
        """One figure by the name of its metric; ValueError if it was not measured."""
        if name not in self.figures:
            raise ValueError(f"{name} was not measured")
        return float(self.figures[name])

    def with_figures(self, figures: Mapping[str, float]) -> Measured:
        """A copy with these figures added or replaced."""
        return replace(self, figures={**self.figures, **figures})

    def timed(self, figures: Mapping[str, float], *, spread: float, noisy: bool, device: str = "") -> Measured:
        """A copy with the timed figures of a device.

        figures: under their full names. spread, noisy: of the latency. device: name of a named one; empty for the
        study's own device.
        """
        measured = self.with_figures(figures)
        if not device:
            return replace(measured, latency_spread=spread, latency_noisy=noisy)
        others = tuple(name for name in self.noisy_devices if name != device)
        return replace(
            measured,
            device_spreads={**self.device_spreads, device: spread},
            noisy_devices=(*others, *((device,) if noisy else ())),
        )

    def broken_budgets(self, budgets: Iterable[Budget]) -> str:
        """Describe every broken budget; empty if none. Unmeasured figures break none."""
        broken = [
            f"{budget} must hold, but {budget.name} is {self.figures[budget.name]:.6g}"
            for budget in budgets
            if budget.name in self.figures and budget.violation(self.figures[budget.name]) > 0
        ]
        return "; ".join(broken)

    def shortfall(self, budgets: Iterable[Budget]) -> str:
        """Describe the broken budgets of a file to ship, also those on a lost device; empty if there are none."""
        budgets = tuple(budgets)
        lost = [f"{each.name} was not measured" for each in budgets if each.metric.device and self.lacks(each.name)]
        return "; ".join(filter(None, (self.broken_budgets(budgets), *lost)))

    def lacks(self, name: str) -> bool:
        """True if a figure was not measured."""
        return name not in self.figures

    @property
    def whole_macs(self) -> int:
        """Multiply-adds of a sample that runs the whole network, as in training; `macs` is the mean over the exits."""
        return int(self.figure("macs")) if self.exits is None else self.exits.macs[-1]

    @property
    def any_noisy(self) -> bool:
        """True if a latency on any device is noisy."""
        return self.latency_noisy or bool(self.noisy_devices)

    def at_exit_point(self, number: int) -> Measured:
        """The figures of the file with the thresholds of one of its operating points.

        What was measured with the file's own thresholds only, such as the agreement, is left out.
        RequestError if there is no measured one of this number. The point of the file's own thresholds is the file.
        """
        exits = self.exits
        points = () if exits is None else exits.points
        known = [
            place
            for place, each in enumerate(points)
            if each.figures or (exits is not None and each.thresholds == exits.thresholds)
        ]
        if exits is None or number not in known:
            if exits is None:
                raise RequestError(f"exit points need a network with exits, but got exit point {number} of one without")
            rule = f"an exit point must be one of {', '.join(map(str, known)) or 'those measured (none)'}"
            raise RequestError(f"{rule}, but got {number}; `show RUN --trial N` lists them")
        point = points[number]
        if point.thresholds == exits.thresholds:
            return self
        shared = {name: value for name, value in self.figures.items() if name in METRICS and not METRICS[name].timed}
        return replace(
            self,
            figures={**shared, **point.figures},
            agreement=None,
            max_difference=None,
            confusion=point.confusion,
            device_spreads={},
            noisy_devices=(),
            device_agreements={},
            exits=replace(
                exits,
                points=tuple(self._own(each) if each.thresholds == exits.thresholds else each for each in points),
                thresholds=point.thresholds,
                rates=point.rates,
                changed=point.changed,
                stream_ms=point.stream_ms,
                stream_samples=exits.stream_samples if point.stream_ms else 0,
            ),
        )

    def _own(self, point: OperatingPoint) -> OperatingPoint:
        """Return the point that has the file's own thresholds with what was measured of the file."""
        if self.exits is None:
            return point
        exits, names = self.exits, {name for each in self.exits.points for name in each.figures}
        figures = {name: value for name, value in self.figures.items() if name in names}
        return replace(point, rates=exits.rates, changed=exits.changed, figures=figures, stream_ms=exits.stream_ms)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the figures next to the other fields."""
        others = asdict(self) | {"confusion": list(self.confusion), "noisy_devices": list(self.noisy_devices)}
        for name in ("device_spreads", "noisy_devices", "device_agreements"):
            if not others[name]:
                del others[name]  # the form of records of studies without named devices
        if self.exits is None:
            del others["exits"]
        return {**others.pop("figures"), **others}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measured:
        """The inverse of `to_dict`. Older records write null for an unmeasured figure."""
        figures, own = figures_apart(values, (item.name for item in fields(cls)))
        for name in ("confusion", "noisy_devices"):
            own[name] = tuple(own.get(name, ()))
        if own.get("exits") is not None:
            own["exits"] = ExitFigures.from_dict(own["exits"])
        return cls(figures=figures, **own)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one candidate with one seed.

    state: `over_budget` ended before training, `stopped` ended during training by the stopping rule.
    reason: for every state but `trained`; of a trained candidate, the budgets that its file breaks.
    epochs, planned_epochs: of the student itself, done and planned.
    trainings: networks trained for it (generations, peers). teacher_epochs: of assistants and ensemble members that
    this trial was the first to use.
    seconds: per stage. losses: mean of each loss term over the last epoch.
    curve: (epoch, primary metric of the torch module on the validation split) at some epochs. Decisions use it; the
    front does not.
    stopped_at: epoch at which the stopping rule stopped the trial, or would have stopped it in the shadow.
    integer_latency_ms: latency of the version with integer kernels, if the float version is faster and ships instead.
    whole_layers: layers of a user's network that keep all their channels, each group with its reason.
    products: format of the products in training without fake quantization, `float32` or `bfloat16`.

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
    stopped_at: int | None = None
    integer_latency_ms: float | None = None
    teacher_epochs: int = 0
    whole_layers: tuple[str, ...] = ()
    products: str = "float32"

    @property
    def epochs_spent(self) -> int:
        """Epochs of all networks trained for this trial."""
        together = self.candidate.teaching.side_by_side
        earlier = max(0, self.trainings - together) * self.planned_epochs
        return earlier + together * self.epochs + self.teacher_epochs

    @property
    def epochs_saved(self) -> int:
        """Epochs saved by stopping, of the student and its peers."""
        return self.epochs_after(self.epochs) if self.state == "stopped" else 0

    def epochs_after(self, epoch: int) -> int:
        """Planned epochs after this one, of the student and its peers."""
        return (self.planned_epochs - epoch) * self.candidate.teaching.side_by_side

    @property
    def control(self) -> str:
        """The candidate's role as a control of pruning, empty if none."""
        return self.candidate.control

    @property
    def number_format(self) -> str:
        """The number format of the file in words, with the share of weights that stay 32-bit floats.

        Slow integer kernels are replaced by floats.
        """
        shipped = self.candidate.precision
        if self.integer_latency_ms is not None:
            shipped = replace(shipped, activation_bits=32)
        left = None if self.measured is None else self.measured.float32_fraction
        return with_float32(shipped.number_format, left or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the inverse of `from_dict`."""
        values = asdict(self)
        if not self.whole_layers:
            del values["whole_layers"]  # the form of records without such layers
        if self.products == "float32":
            del values["products"]  # the form of records from before other formats
        values["spoke_at"] = values.pop("stopped_at")  # the name in every published record
        values["candidate"] = self.candidate.to_dict()
        values["architecture"] = None if self.architecture is None else self.architecture.to_dict()
        values["measured"] = None if self.measured is None else self.measured.to_dict()
        values["control"] = self.control
        values["epochs_spent"] = self.epochs_spent
        values["number_format"] = self.number_format
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcome:
        """The inverse of `to_dict`; reads older records too."""
        known = dict(values)
        for derived in ("control", "epochs_spent", "number_format"):
            known.pop(derived, None)
        known["stopped_at"] = known.pop("spoke_at", None)
        known["candidate"] = Candidate.from_dict(known["candidate"])
        if known.get("measured") is not None:
            known["measured"] = Measured.from_dict(known["measured"])
        if known.get("architecture") is not None:
            known["architecture"] = Architecture.from_dict(known["architecture"])
        known["curve"] = tuple((epoch, _number(figure)) for epoch, figure in known.get("curve", ()))
        known["whole_layers"] = tuple(known.get("whole_layers", ()))
        known["losses"] = {name: _number(loss) for name, loss in known.get("losses", {}).items()}
        return cls(**known)


def _number(value: float | None) -> float:
    """Return a stored number; JSON holds null for nan."""
    return nan if value is None else value
