"""Early exits of a candidate: their places, their confidence, and the accuracy that they may cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas_compress.errors import RequestError, require_known

PATIENCE = "patience"

CONFIDENCES = ("max_probability", "entropy", "margin", "hinge", PATIENCE)
"""Confidence of an exit in its answer. The first three are numbers from 0 to 1 of the probabilities of a cross-entropy
classifier: the largest one, 1 - entropy / log(classes), and the difference of the two largest ones. `hinge` is the
largest score of linear one-vs-rest classifiers with hinge loss (Shafiee et al. 2018, arXiv 1811.01476), of any size.
`patience` is the number of exits in a row, up to this one, with the same answer (Zhou et al. 2020, arXiv 2006.04152);
its threshold is a whole number, the same for all exits."""

EXIT_TARGETS = ("labels", "last_exit")
"""Targets of the exits' classifiers: the labels, or the answers of the whole network (distillation)."""

EXIT_TRAININGS = ("frozen", "joint")
"""Training of the network with exits: as without exits, or with the losses of the exits added to its own. In both, the
classifiers of the exits are fitted to the features of the trained and quantized network."""

JOINT_WEIGHT = 0.3
"""Weight of the loss of an exit in joint training, next to 1 for the end of the network."""

MOST_EXITS = 3
MOST_PATIENT_EXITS = 11
"""Limits of the exits of a network. Each exit has a threshold of its own, except for `patience`."""

EXIT = "exit"
"""Output with the number of the exit that a sample took; the end of the network has the last number."""

THRESHOLD = "threshold"
"""Start of the names of the file's optional inputs: `threshold0`, `threshold1`, ... of shape (1,)."""


@dataclass(frozen=True, kw_only=True)
class Exits:
    """Early exits of a trained network (Teerapittayanon et al. 2016, arXiv 1709.01686).

    The network is trained first. The linear classifiers of the exits are then fitted to its features, which stay.
    In joint training the losses of the exits train the network as well.

    after: features behind which the exits are, such as `stage0` or `layer1`, in forward order.
    confidence: one of CONFIDENCES, `max_probability` by default.
    accuracy_loss: fraction of the validation samples that the exits may cost, 0.005 by default.
    target: one of EXIT_TARGETS, `labels` by default.
    training: one of EXIT_TRAININGS, `frozen` by default.
    weights: of the losses of the exits in joint training, one per exit; JOINT_WEIGHT each by default.

    >>> Exits(after=("stage0",)).confidence
    'max_probability'
    """

    after: tuple[str, ...]
    confidence: str = "max_probability"
    accuracy_loss: float = 0.005
    target: str = "labels"
    training: str = "frozen"
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        after: object = self.after  # a space may give anything
        if isinstance(after, str):
            raise RequestError(f"exits must be after a list of names, but got {after!r}; write ({after!r},)")
        object.__setattr__(self, "after", tuple(self.after))
        object.__setattr__(self, "accuracy_loss", float(self.accuracy_loss))
        object.__setattr__(self, "weights", tuple(map(float, self.weights)))
        require_known("a confidence", self.confidence, CONFIDENCES)
        most = MOST_PATIENT_EXITS if self.confidence == PATIENCE else MOST_EXITS
        if not 1 <= len(self.after) <= most or len(set(self.after)) < len(self.after):
            given = ", ".join(map(repr, self.after)) or "none"
            raise RequestError(f"exits must be after 1 to {most} different stages or layers, but got {given}")
        require_known("a target of exits", self.target, EXIT_TARGETS)
        if self.confidence == "hinge" and self.target != "labels":
            raise RequestError("target='labels' must hold for confidence='hinge', but got target='last_exit'")
        if not 0 <= self.accuracy_loss < 1:
            raise RequestError(f"0 <= accuracy_loss < 1 must hold, but got accuracy_loss={self.accuracy_loss}")
        require_known("a training of exits", self.training, EXIT_TRAININGS)
        self._check_weights()

    def _check_weights(self) -> None:
        if self.weights and self.training != "joint":
            raise RequestError(f"training='joint' must hold for weights of exits, but got training={self.training!r}")
        if self.weights and len(self.weights) != len(self.after):
            raise RequestError(
                f"weights must be one per exit ({len(self.after)}), but got {len(self.weights)}: {list(self.weights)}"
            )
        if not all(0 < weight < math.inf for weight in self.weights):
            raise RequestError(f"0 < weight < inf must hold for each exit, but got {list(self.weights)}")

    @property
    def loss_weights(self) -> tuple[float, ...]:
        """Weights of the losses of the exits in joint training."""
        return self.weights or (JOINT_WEIGHT,) * len(self.after)

    @property
    def threshold_range(self) -> tuple[float, float]:
        """Lowest and highest threshold; inf always means no exit."""
        if self.confidence == PATIENCE:
            return 1, len(self.after)
        return (-math.inf, math.inf) if self.confidence == "hinge" else (0, 1)

    def check_thresholds(self, thresholds: Sequence[float]) -> None:
        """Raise RequestError unless each exit has a threshold in the range of the confidence, or inf for no exit."""
        if len(thresholds) != len(self.after):
            raise RequestError(
                f"thresholds must be one per exit ({len(self.after)}), but got {len(thresholds)}: {list(thresholds)}"
            )
        if self.confidence == PATIENCE:
            wanted = [*range(1, len(self.after) + 1), math.inf]
            if len(set(thresholds)) > 1 or thresholds[0] not in wanted:
                raise RequestError(
                    f"thresholds of patience must be one whole number from 1 to {len(self.after)}, or inf for no exit, "
                    f"but got {list(thresholds)}"
                )
        lowest, highest = self.threshold_range
        for threshold in thresholds:
            if not (lowest <= threshold <= highest or threshold == math.inf):
                raise RequestError(
                    f"{lowest} <= threshold <= {highest} must hold for {self.confidence}, or inf for no exit, "
                    f"but got {threshold}"
                )
