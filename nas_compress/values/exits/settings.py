"""Early exits of a candidate: their places, their confidence, and the accuracy that they may cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas_compress.errors import RequestError, require_known

CONFIDENCES = ("max_probability", "entropy", "margin", "hinge")
"""Confidence of an exit in its answer. The first three are numbers from 0 to 1 of the probabilities of a cross-entropy
classifier: the largest one, 1 - entropy / log(classes), and the difference of the two largest ones. `hinge` is the
largest score of linear one-vs-rest classifiers with hinge loss (Shafiee et al. 2018, arXiv 1811.01476), of any size."""

EXIT_TARGETS = ("labels", "last_exit")
"""Targets of the exits' classifiers: the labels, or the answers of the whole network (distillation)."""

MOST_EXITS = 3

EXIT = "exit"
"""Output with the number of the exit that a sample took; the end of the network has the last number."""

THRESHOLD = "threshold"
"""Start of the names of the file's optional inputs: `threshold0`, `threshold1`, ... of shape (1,)."""


@dataclass(frozen=True, kw_only=True)
class Exits:
    """Early exits of a trained network (Teerapittayanon et al. 2016, arXiv 1709.01686).

    The network is trained first. The linear classifiers of the exits are then fitted to its features, which stay.

    after: features behind which the exits are, such as `stage0` or `layer1`, in forward order.
    confidence: one of CONFIDENCES, `max_probability` by default.
    accuracy_loss: fraction of the validation samples that the exits may cost, 0.005 by default.
    target: one of EXIT_TARGETS, `labels` by default.

    >>> Exits(after=("stage0",)).confidence
    'max_probability'
    """

    after: tuple[str, ...]
    confidence: str = "max_probability"
    accuracy_loss: float = 0.005
    target: str = "labels"

    def __post_init__(self) -> None:
        object.__setattr__(self, "after", tuple(self.after))
        object.__setattr__(self, "accuracy_loss", float(self.accuracy_loss))
        if not 1 <= len(self.after) <= MOST_EXITS or len(set(self.after)) < len(self.after):
            given = ", ".join(map(repr, self.after)) or "none"
            raise RequestError(f"exits must be after 1 to {MOST_EXITS} different stages or layers, but got {given}")
        require_known("a confidence", self.confidence, CONFIDENCES)
        require_known("a target of exits", self.target, EXIT_TARGETS)
        if self.confidence == "hinge" and self.target != "labels":
            raise RequestError("target='labels' must hold for confidence='hinge', but got target='last_exit'")
        if not 0 <= self.accuracy_loss < 1:
            raise RequestError(f"0 <= accuracy_loss < 1 must hold, but got accuracy_loss={self.accuracy_loss}")

    def check_thresholds(self, thresholds: Sequence[float]) -> None:
        """Raise RequestError unless each exit has a threshold in the range of the confidence, or inf for no exit."""
        if len(thresholds) != len(self.after):
            raise RequestError(
                f"thresholds must be one per exit ({len(self.after)}), but got {len(thresholds)}: {list(thresholds)}"
            )
        for threshold in thresholds:
            inside = not math.isnan(threshold) and (self.confidence == "hinge" or 0 <= threshold <= 1)
            if not (inside or threshold == math.inf):
                raise RequestError(
                    f"0 <= threshold <= 1 must hold for {self.confidence}, or inf for no exit, but got {threshold}"
                )
