"""One point of a front: the figures of a trial, or of the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan

from nas_compress.errors import require_known
from nas_compress.values.metrics.table import METRICS


@dataclass(frozen=True, kw_only=True)
class Point:
    """The figures of one finished trial, or of the teacher.

    trial: number of the trial, or the word `teacher`.
    figures: values by their name in METRICS; an untrained trial lacks the metrics of training.
    epochs_spent: epochs of all networks trained for this point, None if unknown.
    model: path of the ONNX file relative to the run folder.
    searched: the searched parameters by name.
    feasible: all budgets are met after a full training.
    stopped: a stopping rule or a pruner ended it.
    exit_point: number of other thresholds of a trained network with early exits, None for those of the trial itself.
    early_exits: the network has early exits.
    float32_latency_ms: latency of the same architecture in float32, None if it was not compared.
    number_format: the number format of the file's computations, and the simulated one; empty if unknown.

    >>> Point(trial=3, figures={"accuracy": 0.98, "size_bytes": 21_000}).figure("size_bytes")
    21000.0
    """

    trial: int | str
    figures: Mapping[str, float] = field(hash=False)
    epochs_spent: int | None = None
    model: str = ""
    searched: tuple[tuple[str, object], ...] = ()
    feasible: bool = True
    float32_latency_ms: float | None = None
    number_format: str = ""
    stopped: bool = False
    exit_point: int | None = None
    early_exits: bool = False

    def __post_init__(self) -> None:
        for name, value in self.figures.items():
            require_known("a figure", name, METRICS)
            METRICS[name].require(value, f" (trial {self.trial})")

    @property
    def label(self) -> str:
        """The number of the trial, with that of the exit point behind a slash.

        >>> Point(trial=3, figures={}).label, Point(trial=3, figures={}, exit_point=1).label
        ('3', '3/1')
        """
        return str(self.trial) if self.exit_point is None else f"{self.trial}/{self.exit_point}"

    @property
    def words(self) -> str:
        """The label in words.

        >>> Point(trial=3, figures={}, exit_point=1).words
        'trial 3, exit point 1'
        """
        return f"trial {self.trial}" + ("" if self.exit_point is None else f", exit point {self.exit_point}")

    def figure(self, name: str) -> float:
        """One figure by the name of its metric; nan if it was not measured."""
        require_known("a figure", name, METRICS)
        return float(self.figures.get(name, nan))
