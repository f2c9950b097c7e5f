"""One row of the table of metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isnan
from typing import Literal

from nas_compress.errors import RequestError

Direction = Literal["maximize", "minimize"]
Notation = Literal["percent", "plain", "prefix"]


ONE_SAMPLE = "batch of 1"
"""Words of the default conditions of a timed metric."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure of a model file.

    name: the key in study.toml, in records and in front.csv.
    label: the words of a sentence; axis_label: the words of an axis, with the unit.
    notation: `percent` of a fraction, `plain` number, or `prefix` (k, M, G; 1 kB is 1000 bytes).
    unit: follows a shown value. digits: decimals in tables; 0 groups thousands.
    known_before_training: the untrained file has the same figure.
    timed: measured under the settings of the study's device; `{conditions}` in the axis label stands for their words.
    bounds: smallest and largest value. (0, inf) excludes 0 and gets a logarithmic scale.
    chance: the figure of a random answer by the number of classes, None if there is no such level.
    own: declared by a study, with a function of the user.
    device: named device of the study that is timed; empty for the study's own device.

    >>> from nas_compress.values.metrics.table import METRICS
    >>> METRICS["size_bytes"].shown(61_300), METRICS["size_bytes"].cell(61_300)
    ('61.3 kB', '61,300')
    """

    name: str
    summary: str
    direction: Direction
    label: str
    axis_label: str
    notation: Notation
    unit: str = ""
    digits: int = 4
    known_before_training: bool = False
    timed: bool = False
    bounds: tuple[float, float] = (0.0, inf)
    chance: Callable[[int], float] | None = None
    own: bool = False
    device: str = ""

    @property
    def log_scale(self) -> bool:
        """Equal ratios, not equal differences, are equal distances on axes and in hypervolumes."""
        return self.bounds == (0.0, inf)

    @property
    def worst(self) -> float:
        """The bound in the wrong direction, which may be infinite."""
        return self.bounds[1] if self.direction == "minimize" else self.bounds[0]

    def axis(self, conditions: str = "") -> str:
        """The words of an axis. conditions: `DeviceSettings.conditions` of the study.

        >>> from nas_compress.values.metrics.table import METRICS
        >>> METRICS["latency_ms"].axis(), METRICS["latency_ms"].axis("batch of 8, p95")
        ('latency (ms, batch of 1)', 'latency (ms, batch of 8, p95)')
        """
        return self.axis_label.format(conditions=conditions or ONE_SAMPLE) if self.timed else self.axis_label

    def cell(self, value: float) -> str:
        """The value as a table cell, without a unit."""
        return f"{value:.{self.digits}f}" if self.digits else f"{value:,.0f}"

    def shown(self, value: float) -> str:
        """The value for people: `98.6 %`, `0.25 ms`, `1.2 MB`, `61 k`."""
        if self.notation == "percent":
            return f"{100 * value:.4g} %"
        if self.notation == "prefix":
            return _prefixed(value, self.unit)
        return f"{value:.3g} {self.unit}".strip()

    def require(self, value: float, where: str = "") -> None:
        """Raise RequestError if the value lies outside the bounds. nan, an unmeasured figure, passes."""
        low, high = self.bounds
        rule = f"{self.name} > 0" if self.log_scale else f"{low:g} <= {self.name} <= {high:g}"
        inside = value > 0 if self.log_scale else low <= value <= high
        if not isnan(value) and not inside:
            raise RequestError(f"{rule} must hold, but got {self.name}={value}{where}")


def _prefixed(value: float, unit: str) -> str:
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".strip()
