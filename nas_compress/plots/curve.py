"""The picture of one training: its accuracy over its epochs."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from nas_compress.errors import RequestError
from nas_compress.plots import canvas, marks
from nas_compress.plots.panel import plain
from nas_compress.plots.picture import Picture

CAPTION = (
    "Accuracy of the torch module on the validation split, for decisions; the front has the accuracy of the ONNX file."
)


def curve_picture(curve: Sequence[tuple[int, float]], *, planned: int, title: str) -> Picture:
    """The learning curve: (epoch, accuracy) over the `planned` epochs. RequestError for an empty one."""
    if not curve:
        raise RequestError("a learning curve needs at least one epoch, but got none")
    figure, (axes,) = canvas.sheet(1, title=title, caption=CAPTION, entries=())
    plain(axes)
    epochs, accuracies = zip(*curve, strict=True)
    axes.plot(epochs, [100 * accuracy for accuracy in accuracies], "o-", color=marks.MEMBER, markersize=5)
    axes.set_xlim(0, max(planned, epochs[-1]) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel("accuracy (%)   better →", fontsize=9)
    return Picture(figure)
