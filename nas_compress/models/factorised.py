"""Layers as products of thinner ones, from the singular values of a fresh layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_compress.models.layers import ActivationPoint
from nas_compress.models.transformer_layers import EncoderLayer

SMALLEST_RANK = 8
"""Step of the ranks, for the runtime's kernels."""


class Factorised(nn.Sequential):
    """Thin layers in a row in place of one, an activation point between two; the last has the bias."""


def factorise_(network: nn.Module, *, rank_fraction: float, kind: str) -> None:
    """Factorise in place every convolution and linear layer that gets fewer parameters by it.

    kind: `low_rank` splits in two (`low_rank`, `channel_svd`), `tucker` splits kernels of more than one pixel in three.
    Grouped convolutions stay, and so do layers used by another module by name. rank_fraction: of the layer's channels.
    """
    for path, module in list(network.named_modules()):
        thin: Factorised | None = None
        if type(module) is nn.Linear:
            rank = _rank(min(module.in_features, module.out_features), rank_fraction)
            thin = low_rank(module, rank, rows=_rows_per_sample(network, path))
        elif type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros":
            output_rank = _rank(module.out_channels, rank_fraction)
            if kind == "tucker" and max(module.kernel_size) > 1:
                thin = tucker(module, _rank(module.in_channels, rank_fraction), output_rank)
            else:
                thin = channel_svd(module, output_rank)
        if thin is not None and path and _count(thin) < _count(module):
            network.set_submodule(path, thin)


def last_layer(network: nn.Module, path: str) -> str:
    """The path of a layer, or of its last factor.

    >>> last_layer(nn.Sequential(nn.Conv2d(1, 8, 3)), "0")
    '0'
    """
    layer = network.get_submodule(path)
    return f"{path}.{len(layer) - 1}" if isinstance(layer, Factorised) else path


def _rows_per_sample(network: nn.Module, path: str) -> int:
    """Rows of a sample in the values of a linear layer."""
    parts = path.split(".")
    owners = [network.get_submodule(".".join(parts[:length])) for length in range(len(parts))]
    return next((owner.rows for owner in owners if isinstance(owner, EncoderLayer)), 1)


def low_rank(layer: nn.Linear, rank: int, *, rows: int = 1) -> Factorised:
    """W = (U sqrt S) (sqrt S V^T), cut to `rank`: two linear layers of equal norms. rows: see `ActivationPoint`."""
    left, right = _split(layer.weight.detach(), rank)
    first = nn.Linear(layer.in_features, len(right), bias=False)
    second = nn.Linear(len(right), layer.out_features, bias=layer.bias is not None)
    _fill_(first, right)
    _fill_(second, left, layer.bias)
    return Factorised(first, ActivationPoint(rows=rows), second)


def channel_svd(layer: nn.Conv2d, rank: int) -> Factorised:
    """The kernel to `rank` channels, then 1x1 to the outputs (Zhang et al. 2016, arXiv 1505.06798)."""
    left, right = _split(layer.weight.detach().flatten(1), rank)
    first = _like(layer, layer.in_channels, len(right))
    second = nn.Conv2d(len(right), layer.out_channels, 1, bias=layer.bias is not None)
    _fill_(first, right)
    _fill_(second, left, layer.bias)
    return Factorised(first, ActivationPoint(), second)


def tucker(layer: nn.Conv2d, input_rank: int, output_rank: int) -> Factorised:
    """1x1 to `input_rank`, the kernel to `output_rank`, 1x1 to the outputs (Kim et al. 2016, arXiv 1511.06530).

    Stride and padding stay with the kernel. The layer's own channels limit the ranks.
    """
    weight = layer.weight.detach()
    outputs = _leading(weight.flatten(1), output_rank)
    inputs = _leading(weight.transpose(0, 1).flatten(1), input_rank)
    core = torch.einsum("oihw,or,is->rshw", weight, outputs, inputs)
    first = nn.Conv2d(layer.in_channels, inputs.shape[1], 1, bias=False)
    middle = _like(layer, inputs.shape[1], outputs.shape[1])
    last = nn.Conv2d(outputs.shape[1], layer.out_channels, 1, bias=layer.bias is not None)
    _fill_(first, inputs.T)
    _fill_(middle, core)
    _fill_(last, outputs, layer.bias)
    return Factorised(first, ActivationPoint(), middle, ActivationPoint(), last)


def _rank(channels: int, fraction: float) -> int:
    return max(SMALLEST_RANK, round(fraction * channels / SMALLEST_RANK) * SMALLEST_RANK)


def _split(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank]


def _leading(matrix: Tensor, rank: int) -> Tensor:
    left, _, _ = torch.linalg.svd(matrix, full_matrices=False)
    leading: Tensor = left[:, :rank]
    return leading


def _like(layer: nn.Conv2d, inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution with the layer's kernel, stride, padding and dilation, and no bias."""
    kernel, stride, dilation = ((pair[0], pair[1]) for pair in (layer.kernel_size, layer.stride, layer.dilation))
    padding = layer.padding if isinstance(layer.padding, str) else (layer.padding[0], layer.padding[1])
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)


@torch.no_grad()
def _fill_(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor | None = None) -> None:
    layer.weight.copy_(weight.reshape(layer.weight.shape))
    if bias is not None and layer.bias is not None:
        layer.bias.copy_(bias)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
