"""Biases as the runtime's integer kernels add them.

Such a kernel sums integer products in int32, and the bias with them: rounded to a multiple of input scale x weight
scale (Jacob et al. 2018, arXiv 1712.05877, section 2.4). With weights of few bits that multiple can exceed the step
of the layer's own answers.
"""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from nas_compress.quantization.modules import (
    IntegerWeight,
    QuantizedActivation,
    QuantizedInput,
    StoredConv2d,
    StoredLinear,
)

Layer = StoredConv2d | StoredLinear


@torch.no_grad()
def round_biases_(network: nn.Module, sample: Tensor) -> None:
    """Let each layer that reads integers add its bias rounded to a multiple of both scales, as the runtime does.

    sample: uint8 (1, C, H, W), which passes through once, so that each layer meets what it reads. A layer that reads
    tensors of several scales keeps its bias, as do linear layers over more than rows (n, inputs), whose bias the
    runtime adds in floats.
    """
    rounded: dict[int, tuple[Tensor, float]] = {}
    met: dict[Layer, set[float | None]] = {}

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], answer: Tensor) -> None:
        if isinstance(module, QuantizedActivation | QuantizedInput):
            # kept alive, so that no other tensor takes its place in memory
            rounded[answer.data_ptr()] = answer, module.scale

    def look_up(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(layer, StoredConv2d | StoredLinear):
            met.setdefault(layer, set()).add(_scale_of(layer, inputs[0], rounded))

    with ExitStack() as hooks:
        for module in network.modules():
            hooks.callback(module.register_forward_hook(remember).remove)
            hooks.callback(module.register_forward_pre_hook(look_up).remove)
        network(sample)
    for layer, scales in met.items():
        layer.input_scale = next(iter(scales)) if len(scales) == 1 else None


def _scale_of(layer: Layer, values: Tensor, rounded: dict[int, tuple[Tensor, float]]) -> float | None:
    """The scale of the integers that `values` stands for; None where the runtime adds a float bias."""
    source, scale = rounded.get(values.data_ptr(), (None, None))
    # a part of a tensor begins where the whole one does
    is_whole = source is not None and source.numel() == values.numel()
    is_integer = isinstance(layer.weight, IntegerWeight) and (isinstance(layer, StoredConv2d) or values.dim() == 2)
    return scale if is_whole and is_integer else None
