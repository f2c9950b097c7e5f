"""Strided 1x1 convolutions of few channels, which corrupt memory in the backward pass of oneDNN.

oneDNN 3.12 (torch 2.13) writes past its workspace if the stride of a 1x1 convolution divides the height and width, the
input is channels_last on a CPU, and its channels are fewer than a vector holds: 8 with AVX2, 16 with AVX-512. With one
thread the process crashes; with several it hangs or the gradient of the weight is wrong
(https://github.com/uxlfoundation/oneDNN/issues/6035). Minimal case::

    torch.set_num_threads(1)
    values = torch.randn(32, 4, 8, 8).to(memory_format=torch.channels_last)
    convolution = nn.Conv2d(4, 8, 1, stride=2).to(memory_format=torch.channels_last)
    for _ in range(300):
        convolution(values).sum().backward()
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def vector_floats() -> int:
    """Return the number of floats in a vector of oneDNN's kernels on this CPU, or 16 if it is unknown.

    The variable ATEN_CPU_CAPABILITY limits torch's own kernels but not those of oneDNN.
    """
    known = "ATEN_CPU_CAPABILITY" not in os.environ
    return 8 if known and torch.backends.cpu.get_cpu_capability() == "AVX2" else 16


@contextmanager
def safe_backward(network: nn.Module) -> Iterator[None]:
    """Let strided 1x1 convolutions of few channels select their pixels first and then use stride 1.

    The values and gradients are the same. Afterwards the layers are as before.
    """
    changed = [(layer, layer.stride, _select_first(layer)) for layer in network.modules() if _is_affected(layer)]
    try:
        yield
    finally:
        for layer, stride, hook in changed:
            hook.remove()
            layer.stride = stride


def _is_affected(layer: Any) -> bool:
    """Tell by attributes, because quantized convolutions are no `nn.Conv2d`."""
    weight, stride = getattr(layer, "weight", None), getattr(layer, "stride", None)
    return (
        isinstance(weight, Tensor)
        and isinstance(stride, tuple)
        and getattr(layer, "groups", None) == 1
        and not getattr(layer, "transposed", False)
        and weight.device.type == "cpu"
        and weight.shape[1] < vector_floats()
        and set(weight.shape[2:]) == {1}
        and max(stride) > 1
        and getattr(layer, "padding", None) in ("valid", (0,) * len(stride))
    )


def _select_first(layer: Any) -> Any:
    pixels: tuple[Any, ...] = (..., *(slice(None, None, step) for step in layer.stride))
    layer.stride = (1,) * len(layer.stride)

    def select(_: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (inputs[0][pixels],)

    return layer.register_forward_pre_hook(select)
