"""A penalty on the scales of batch normalisation, by which a network learns which channels it can do without."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas_compress.errors import refusal
from nas_compress.losses.terms import LossFunction


def with_scale_penalty(loss: LossFunction, network: nn.Module, weight: float) -> LossFunction:
    """The loss with a further term `bn_sparsity`: weight times the sum of |scale| over all batch normalisations.

    Network slimming's penalty (Liu et al. 2017, arXiv 1708.06519, equation 1); its gradient is weight times the sign of
    each scale. RequestError where the network has no batch normalisation.
    """
    scales = require_scales(network)

    def penalised(student: Tensor, labels: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
        return {**loss(student, labels, teacher), "bn_sparsity": weight * torch.cat(scales).abs().sum()}

    return penalised


def require_scales(network: nn.Module, where: str = "") -> list[Tensor]:
    """The scales (channels,) of every batch normalisation; RequestError where there is none."""
    scales: list[Tensor] = [
        module.weight for module in network.modules() if isinstance(module, _BatchNorm) and module.affine
    ]
    if not scales:
        raise refusal("bn_sparsity needs batch normalisation, but the teacher has none; use bn_sparsity = 0", where)
    return scales
