"""Number format of the products in a training: float32, or bfloat16 where the processor has it and it pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nas_compress.errors import RequestError

Precision = Literal["auto", "float32", "bfloat16"]
"""What a study asks for."""

Products = Literal["float32", "bfloat16"]
"""What a training does."""

BFLOAT16_MACS = 200_000_000
"""Least forward multiply-adds of a batch for bfloat16 on a CPU, if the study does not ask for it.

With them a step of a residual or mobile network took 0.45 to 0.63 of the float32 step on an AMD EPYC with AVX512-BF16;
with 97 million 0.80, with 9 million 1.09. A count decides, not a timing, because the same training must give the same
bits.
"""

_products: ContextVar[Products | None] = ContextVar("products", default=None)


def has_bfloat16(device: torch.device) -> bool:
    """True if the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return True
    # a build of torch without oneDNN, as for macOS, has no such operator
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_onednn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def require_precision(precision: Precision, device: torch.device, where: str = "") -> None:
    """Raise RequestError for bfloat16 on a processor without it. where: file and key, for the error text."""
    if precision == "bfloat16" and not has_bfloat16(device):
        rule = "precision = 'bfloat16' needs a processor with AVX512-BF16 or AMX, or a GPU"
        raise RequestError(
            f"{rule}, but this one has none{f' ({where})' * bool(where)}; 'auto' and 'float32' train in float32 here"
        )


def products_of(precision: Precision, network: nn.Module, device: torch.device, *, batch_macs: int) -> Products:
    """Return the format of a training. batch_macs: forward multiply-adds of a batch.

    On a CPU, `auto` takes bfloat16 for networks with convolutions of two dimensions and batches from BFLOAT16_MACS on;
    other networks were not measured.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16"
    pays = batch_macs >= BFLOAT16_MACS and any(isinstance(layer, nn.Conv2d) for layer in network.modules())
    return "bfloat16" if pays and has_bfloat16(device) else "float32"


@contextmanager
def training_in(products: Products | None, learners: nn.Module) -> Iterator[None]:
    """Let `mixed_precision` take this format in the block; None for bfloat16 on a GPU and float32 elsewhere.

    Depthwise convolutions stay float32 on a CPU, because their backward pass has no fast kernel in bfloat16.
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in learners.parameters())
    layers = [layer for layer in learners.modules() if products == "bfloat16" and on_cpu and _is_depthwise(layer)]
    token = _products.set(products)
    try:
        for layer in layers:
            layer.forward = _in_float32(layer.forward)
        yield
    finally:
        for layer in layers:
            del layer.forward
        _products.reset(token)


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast of the training in progress. Losses convert to float32 themselves."""
    products = _products.get()
    if products == "bfloat16" or (products is None and device.type == "cuda"):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def judging_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast of a validation: bfloat16 on a GPU, none elsewhere."""
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else nullcontext()


def _is_depthwise(layer: Any) -> bool:
    """True for a convolution of one channel in each group that has not been given another forward pass."""
    own = isinstance(layer, nn.Conv2d) and "forward" not in vars(layer)
    return own and layer.groups > 1 and layer.groups == layer.in_channels


def _in_float32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def run(values: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return forward(values.float())

    return run
