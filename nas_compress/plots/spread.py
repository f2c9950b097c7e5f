"""What repetitions found about the accuracy of members: bars in a panel and words under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from nas_compress.plots import marks
from nas_compress.plots.front_protocol import DrawnFront
from nas_compress.values.metrics import METRICS


@dataclass(frozen=True, kw_only=True)
class Spreads:
    """Mean and standard deviation of `metric` over seeds by trial; `alike` pairs are within noise of each other."""

    by_trial: Mapping[int, tuple[float, float]]
    alike: Sequence[tuple[int, int]] = ()
    metric: str = "accuracy"


def draw_spreads(axes: Axes, front: DrawnFront, x: str, y: str, spreads: Spreads) -> None:
    """Draw a bar of mean and standard deviation at each repeated member; only over an upright accuracy."""
    if y != spreads.metric:
        return
    known = [(p.figure(x), *spreads.by_trial[int(p.trial)]) for p in front.members if p.trial in spreads.by_trial]
    if known:
        places, means, deviations = zip(*known, strict=True)
        axes.errorbar(places, means, deviations, fmt="_", color=marks.INK, ecolor=marks.INK, capsize=3, lw=1, zorder=4)


def spread_words(spreads: Spreads) -> str:
    """What the bars mean, and which members are within noise of each other."""
    if not spreads.by_trial:
        return ""
    words = f"Bars: mean and standard deviation of the {METRICS[spreads.metric].label} over new seeds."
    pairs = ", ".join(f"{one} and {other}" for one, other in spreads.alike[:8])
    more = f" and {len(spreads.alike) - 8} more pairs" if len(spreads.alike) > 8 else ""
    return f"{words} Within noise of each other on the test split: trials {pairs}{more}." if pairs else words
