"""Progress as pictures: the hypervolume of a study, and the learning curve of one trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nas_compress.errors import RequestError
from nas_compress.plots import canvas, marks
from nas_compress.plots.canvas import Picture, plain
from nas_compress.plots.front_protocol import DrawnFront
from nas_compress.plots.matplotlib_isolation import default_settings
from nas_compress.plots.panel import axis_words
from nas_compress.plots.scales import tick
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import METRICS, in_words


@default_settings()
def plot_hypervolume(finished: Sequence[tuple[float, Point]], front: DrawnFront, path: Path, *, title: str) -> None:
    """Write a picture of the hypervolume over trials (left) and over time (right).

    finished: (seconds since the study began, point) of each finished trial; several points of one trial are one step.
    front: its objectives and reference.
    RequestError for a path without the suffix of a picture, and if there is no reference.
    """
    canvas.require_picture(path)
    if front.reference is None:
        raise RequestError("a hypervolume needs a teacher or all reference_figures, but got neither")
    ordered = sorted(finished, key=lambda pair: pair[0])
    volumes = front.hypervolume_history([point for _, point in ordered])
    later = [point.trial for _, point in ordered[1:]]
    last = [place for place, (_, point) in enumerate(ordered) if later[place : place + 1] != [point.trial]]
    history, ordered = np.concatenate([[0.0], volumes[last]]), [ordered[place] for place in last]
    unit, length = _time_unit(ordered[-1][0] if ordered else 0.0)
    times = np.array([0.0, *(seconds / length for seconds, _ in ordered)])
    figure, (left, right) = canvas.sheet(2, title=title, caption=_caption(front, front.reference), entries=())
    _draw(left, np.arange(len(history), dtype=np.float64), history, "finished trials")
    left.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    _draw(right, times, history, f"time since the study began ({unit})")
    Picture(figure).save(path)


@default_settings()
def curve_picture(curve: Sequence[tuple[int, float]], *, planned: int, title: str, name: str = "accuracy") -> Picture:
    """The learning curve of one trial over its epochs; RequestError if it is empty.

    curve: (epoch, value) of the metric `name` on the torch module. planned: the epochs of a full training.
    """
    if not curve:
        raise RequestError("a learning curve needs at least one epoch, but got none")
    caption = (
        f"{METRICS[name].label.capitalize()} of the torch module on the validation split, used for decisions only. "
        "The front has the figures of the ONNX file."
    )
    figure, (axes,) = canvas.sheet(1, title=title, caption=caption, entries=())
    plain(axes)
    epochs, values = zip(*curve, strict=True)
    axes.plot(epochs, values, "o-", color=marks.MEMBER, markersize=5)
    axes.set_xlim(0, max(planned, epochs[-1]) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: tick(name, value))
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel(axis_words(name), fontsize=9)
    return Picture(figure)


def _draw(axes: Axes, across: NDArray[np.float64], history: NDArray[np.float64], words: str) -> None:
    plain(axes)
    axes.step(across, history, where="post", color=marks.MEMBER, linewidth=1.6, zorder=3)
    axes.fill_between(across, history, step="post", color=marks.MEMBER, alpha=0.1, linewidth=0)
    risen = np.flatnonzero(np.diff(history) > 0) + 1
    axes.plot(across[risen], history[risen], "o", markersize=5, color=marks.MEMBER, mec="white", zorder=4)
    axes.set_xlim(0, max(across[-1] * 1.02, 1e-9) if across[-1] else 1)
    axes.set_ylim(0, history[-1] * 1.12 or 1)
    axes.set_xlabel(words, fontsize=9)
    axes.set_ylabel("hypervolume  better →", fontsize=9)
    words = f"{history[-1]:.3g}" if len(history) > 1 else "no trial has finished yet"
    axes.annotate(
        words,
        (across[-1], history[-1]) if len(history) > 1 else (0.5, 0.5),
        xytext=(-2, 5),
        textcoords="offset points",
        ha="right" if len(history) > 1 else "center",
        fontsize=9,
        fontweight="bold",
        color=marks.INK,
    )


def _time_unit(seconds: float) -> tuple[str, float]:
    for unit, length in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return unit, length
    return "seconds", 1.0


def _caption(front: DrawnFront, reference: Sequence[tuple[str, float]]) -> str:
    parts = ["decades" if METRICS[name].log_scale else METRICS[name].label for name, _ in reference]
    origin = in_words(dict(reference), [name for name, _ in reference])
    conditions = f" Latency: {front.all_conditions}." if front.all_conditions else ""
    source = "" if front.reference_figures else " (chance and the teacher's costs)"
    return (
        f"Hypervolume: the space that the front gains over {origin}{source}.\n"
        f"Its unit is {' × '.join(parts)}; a decade is a cost ten times smaller. "
        f"Each dot is a trial that improved the front.{conditions}"
    )
