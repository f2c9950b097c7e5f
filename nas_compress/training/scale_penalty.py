"""A penalty on the scales of batch normalisation, by which a network learns which channels it can do without."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas_compress.errors import refusal
from nas_compress.training.objective import Lesson


class PenalisedLesson:
    """A lesson with a further term `bn_sparsity`: weight times the sum of |scale| over all batch normalisations.

    Network slimming's penalty (Liu et al. 2017, arXiv 1708.06519, equation 1); its gradient is weight times the sign of
    each scale. RequestError where the network has no batch normalisation.
    """

    def __init__(self, lesson: Lesson, weight: float) -> None:
        self._lesson, self._weight = lesson, weight

    @property
    def learners(self) -> Sequence[nn.Module]:
        """What the lesson itself trains."""
        return self._lesson.learners

    def __call__(
        self, model: nn.Module, batch: Tensor, labels: Tensor, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """The terms of a batch; see `Lesson`."""
        terms = self._lesson(model, batch, labels, view=view, index=index, progress=progress)
        return {**terms, "bn_sparsity": self._weight * torch.cat(require_scales(model)).abs().sum()}


def require_scales(network: nn.Module, where: str = "") -> list[Tensor]:
    """The scales (channels,) of every batch normalisation; RequestError where there is none."""
    norms = (module for module in network.modules() if isinstance(module, _BatchNorm) and module.affine)
    scales: list[Tensor] = [norm.weight for norm in norms]
    if not scales:
        raise refusal("bn_sparsity needs batch normalisation, but the teacher has none; use bn_sparsity = 0", where)
    return scales
