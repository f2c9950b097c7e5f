"""The table of metrics, and the objectives, budgets and rewards on metrics.

A new metric is one row of METRICS and the function to measure it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from nas_compress.errors import RequestError, require_known
from nas_compress.values.device_settings import ENERGY
from nas_compress.values.metrics.row import Direction, Metric
from nas_compress.values.metrics.task_rows import TASK_METRICS


def _memory(name: str, label: str, summary: str) -> Metric:
    """A number of bytes known before training, small is good."""
    return Metric(
        name=name,
        summary=f"{summary}; measured if a study names it",
        direction="minimize",
        label=label,
        axis_label=label,
        notation="prefix",
        unit="B",
        digits=0,
        known_before_training=True,
    )


_ROWS = (
    *TASK_METRICS,
    Metric(
        name="latency_ms",
        summary="milliseconds of one run on the study's device, of one sample by default",
        direction="minimize",
        label="latency",
        axis_label="latency (ms, {conditions})",
        notation="plain",
        unit="ms",
        known_before_training=True,
        timed=True,
    ),
    Metric(
        name="latency_p95_ms",
        summary="milliseconds that 95 % of the samples do not exceed: of texts, whose latency_ms is the mean over 16 "
        "lengths of the validation split, and of networks with early exits",
        direction="minimize",
        label="p95 latency",
        axis_label="p95 latency (ms, {conditions})",
        notation="plain",
        unit="ms",
        known_before_training=True,
        timed=True,
    ),
    Metric(
        name="samples_per_s",
        summary="samples per second on the study's device: the batch over its latency",
        direction="maximize",
        label="throughput",
        axis_label="throughput (samples/s, {conditions})",
        notation="prefix",
        unit="/s",
        digits=1,
        known_before_training=True,
        timed=True,
    ),
    Metric(
        name="size_bytes",
        summary="bytes of the file",
        direction="minimize",
        label="file size",
        axis_label="file size",
        notation="prefix",
        unit="B",
        digits=0,
        known_before_training=True,
    ),
    Metric(
        name="parameters",
        summary="parameters of the torch module",
        direction="minimize",
        label="parameters",
        axis_label="parameters",
        notation="prefix",
        digits=0,
        known_before_training=True,
    ),
    Metric(
        name="macs",
        summary="multiply-adds of the torch module for one sample",
        direction="minimize",
        label="multiply-adds",
        axis_label="multiply-adds",
        notation="prefix",
        digits=0,
        known_before_training=True,
    ),
    Metric(
        name=ENERGY,
        summary="millijoules of the processor for one sample, idle power included, on a machine that counts them; "
        "measured if a study names it",
        direction="minimize",
        label="energy",
        axis_label="energy (mJ, {conditions})",
        notation="plain",
        unit="mJ",
        known_before_training=True,
        timed=True,
    ),
    _memory("peak_memory_bytes", "peak memory", "bytes of weights, tensors and buffers in a run by onnxruntime"),
    _memory("flash_bytes", "flash", "bytes of weights as kernels read them, for microcontrollers"),
    _memory("ram_bytes", "RAM", "bytes of activations in use at once for one sample, for microcontrollers"),
)

_TABLE = {metric.name: metric for metric in _ROWS}

METRICS: Mapping[str, Metric] = _TABLE
"""Every metric by its name: the built-in ones, then those of studies. Tables show them in this order."""


def declare_metrics(metrics: Iterable[Metric]) -> None:
    """Add a study's own metrics to METRICS, for this process.

    RequestError if a name has another direction in METRICS: figures of two studies would be mixed.
    """
    for metric in metrics:
        known = METRICS.get(metric.name)
        if known is not None and (known.direction, known.bounds) != (metric.direction, metric.bounds):
            raise RequestError(
                f"a metric must have one direction in a process, but got {metric.name} to {metric.direction}, and "
                f"another study has it to {known.direction}; use another name"
            )
        _TABLE[metric.name] = metric


def chance_levels(classes: int) -> dict[str, float]:
    """The chance levels of classification by metric.

    >>> chance_levels(10)["accuracy"]
    0.1
    """
    return {name: metric.chance(classes) for name, metric in METRICS.items() if metric.chance is not None}


def in_table_order(names: Iterable[str]) -> tuple[str, ...]:
    """The distinct names in the order of METRICS; unknown names follow in their own order."""
    given = dict.fromkeys(names)
    return (*(name for name in METRICS if name in given), *(name for name in given if name not in METRICS))


def figures_apart(values: Mapping[str, Any], own: Iterable[str]) -> tuple[dict[str, float], dict[str, Any]]:
    """Divide the flat values of a record into figures and its `own` fields.

    Older files write null for an unmeasured figure, which is left out.

    >>> figures_apart({"accuracy": 0.9, "macs": None, "seed": 0}, ["seed"])
    ({'accuracy': 0.9}, {'seed': 0})
    """
    names = set(own)
    figures = {name: value for name, value in values.items() if name not in names and value is not None}
    return figures, {name: value for name, value in values.items() if name in names}


def in_words(figures: Mapping[str, float], names: Iterable[str]) -> str:
    """The known ones of the named figures, as one line.

    >>> in_words({"latency_ms": 0.25, "accuracy": 0.98}, ["accuracy", "latency_ms", "size_bytes"])
    'accuracy 98 %, latency 0.25 ms'
    """
    known = [METRICS[name] for name in names if name in figures]
    return ", ".join(f"{metric.label} {metric.shown(figures[metric.name])}" for metric in known)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One metric to improve; its direction follows from its name.

    >>> Objective(name="latency_ms").direction
    'minimize'
    """

    name: str

    def __post_init__(self) -> None:
        require_known("an objective", self.name, METRICS)

    @property
    def metric(self) -> Metric:
        """The row of METRICS."""
        return METRICS[self.name]

    @property
    def direction(self) -> Direction:
        """`maximize` or `minimize`."""
        return self.metric.direction

    def cost(self, value: float) -> float:
        """The value as a cost: small is good. All sign changes happen here."""
        return -value if self.direction == "maximize" else value


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A limit on one metric: `at_least` if it is maximised, `at_most` if it is minimised.

    relative: words about the teacher's figure, from which the limit was computed; empty for a limit of the study file.

    >>> Budget(name="size_bytes", limit=64_000).violation(65_000) > 0
    True
    """

    name: str
    limit: float
    relative: str = ""

    def __post_init__(self) -> None:
        require_known("a budget", self.name, METRICS)
        if not (-inf < self.limit < inf if self.relative else self.limit > 0):
            raise RequestError(f"a budget must be greater than 0, but got {self.name}={self.limit}")

    @property
    def metric(self) -> Metric:
        """The row of METRICS."""
        return METRICS[self.name]

    @property
    def rule(self) -> str:
        """`at_least` or `at_most`."""
        return "at_least" if self.metric.direction == "maximize" else "at_most"

    def violation(self, value: float) -> float:
        """Return the excess of `value` over the limit as a fraction of the limit; <= 0 means satisfied."""
        excess = value - self.limit if self.rule == "at_most" else self.limit - value
        return excess / (abs(self.limit) or 1.0)

    @property
    def key(self) -> str:
        """Name of the budget's constraint in Optuna, the same on machines with other figures of the teacher."""
        return f"{self.name} relative to the teacher" if self.relative else str(self)

    def __str__(self) -> str:
        sign = "<=" if self.rule == "at_most" else ">="
        return f"{self.name} {sign} {self.limit:g}" + (f" ({self.relative})" if self.relative else "")


REWARDS = ("soft", "hard")
"""`soft` rewards each halving of the cost; `hard` penalises only costs above the target."""


@dataclass(frozen=True, kw_only=True)
class Reward:
    """A maximised metric and one cost as one number: quality x (cost / target) ^ w; large is good.

    MnasNet, Tan et al. 2019 (arXiv 1807.11626), equation 2 and section 3.2. `soft` uses w = -0.07 everywhere: twice
    the cost takes 5 % of the quality. `hard` uses w = 0 up to the target and -1 beyond it. One target has one best
    candidate, not a front. Under `soft`, a latency error of 5 % counts as much as 0.35 % of accuracy.

    kind: one of REWARDS. figure: the cost, a metric known before training. target: in the unit of the cost.
    quality: a maximised metric that training determines.

    >>> soft, hard = (Reward(kind=kind, figure="latency_ms", target=2.0) for kind in REWARDS)
    >>> [round(soft.value(0.9, cost), 3) for cost in (1.0, 2.0, 4.0)]
    [0.945, 0.9, 0.857]
    >>> [round(hard.value(0.9, cost), 3) for cost in (1.0, 2.0, 4.0)]
    [0.9, 0.9, 0.45]
    """

    kind: str
    figure: str
    target: float
    quality: str = "accuracy"

    def __post_init__(self) -> None:
        require_known("a reward", self.kind, REWARDS)
        costs = [m.name for m in METRICS.values() if m.known_before_training and m.direction == "minimize"]
        require_known("the figure of a reward", self.figure, costs)
        learned = [m.name for m in METRICS.values() if m.direction == "maximize" and not m.known_before_training]
        require_known("the quality of a reward", self.quality, learned)
        if not 0 < self.target < inf:
            raise RequestError(f"0 < target < inf must hold, but got target={self.target}")

    def value(self, quality: float, cost: float) -> float:
        """The reward of a quality, such as an accuracy as a fraction, at a cost in the unit of the target."""
        if self.kind == "soft":
            return quality * float((cost / self.target) ** -0.07)
        return quality * min(1.0, self.target / cost)

    def __str__(self) -> str:
        return f"{self.kind} reward of {self.quality} and {self.figure} around {self.target:g}"
