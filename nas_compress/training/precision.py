"""Number format of the products in a training: float32, or bfloat16 where the processor has it and it pays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_compress.errors import RequestError

Precision = Literal["auto", "float32", "bfloat16"]
"""What a study asks for."""

Products = Literal["float32", "bfloat16"]
"""What a training does."""

BFLOAT16_MACS = 100_000_000
"""Least forward multiply-adds of a batch for bfloat16 on a CPU, if the study does not ask for it.

On an AMD EPYC with AVX512-BF16 a step above it took 0.5 to 0.9 of the float32 step for networks of all families, and
1.05 for a small GRU (benchmarks/README.md). Below it small mobile networks and transformers take longer than in
float32. A count decides, not a timing, because the same training must give the same bits.
"""

_attend = functional.scaled_dot_product_attention

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


def products_of(precision: Precision, device: torch.device, *, batch_macs: int) -> Products:
    """Return the format of a training. batch_macs: forward multiply-adds of a batch.

    On a CPU, `auto` takes bfloat16 for batches from BFLOAT16_MACS on.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16"
    return "bfloat16" if batch_macs >= BFLOAT16_MACS and has_bfloat16(device) else "float32"


@contextmanager
def training_in(products: Products | None, learners: nn.Module) -> Iterator[None]:
    """Let `mixed_precision` take this format in the block; None for bfloat16 on a GPU and float32 elsewhere.

    Strided depthwise convolutions and attention stay float32 on a CPU: their backward passes have no fast kernels in
    bfloat16 and take 18 and 5 to 10 times as long.
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in learners.parameters())
    token = _products.set(products)
    try:
        with _slow_parts_in_float32(learners) if products == "bfloat16" and on_cpu else nullcontext():
            yield
    finally:
        _products.reset(token)


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast of the training in progress, for its passes and validations.

    Losses convert to float32 themselves.
    """
    products = _products.get()
    if products == "bfloat16" or (products is None and device.type == "cuda"):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def teaching_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast of a teacher's pass in a training: none on a CPU, as in its stored answers and features."""
    return nullcontext() if device.type == "cpu" else mixed_precision(device)


@contextmanager
def _slow_parts_in_float32(learners: nn.Module) -> Iterator[None]:
    layers: list[Any] = [layer for layer in learners.modules() if _is_strided_depthwise(layer)]
    try:
        for layer in layers:
            layer.forward = _in_float32(layer.forward)
        functional.scaled_dot_product_attention = _attention_in_float32
        yield
    finally:
        functional.scaled_dot_product_attention = _attend
        for layer in layers:
            del layer.forward


def _attention_in_float32(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attend as torch's function of this name, which networks of families and of users call."""
    given = functools.partial(_attend, dropout_p=dropout_p, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa)
    if not torch.is_autocast_enabled("cpu"):
        return given(query, key, value, attn_mask)
    query, key, value = (part.float() if part.dtype == torch.bfloat16 else part for part in (query, key, value))
    if attn_mask is not None and attn_mask.dtype == torch.bfloat16:
        attn_mask = attn_mask.float()
    with torch.autocast("cpu", enabled=False):
        return given(query, key, value, attn_mask)


def _is_strided_depthwise(layer: Any) -> bool:
    """True for a strided convolution of one channel in each group that has not been given another forward pass."""
    own = isinstance(layer, nn.Conv2d) and "forward" not in vars(layer)
    return own and 1 < layer.groups == layer.in_channels and max(layer.stride) > 1


def _in_float32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def run(values: Tensor) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):  # outside the training's own passes
            return forward(values)
        with torch.autocast("cpu", enabled=False):
            return forward(values.float()).to(torch.bfloat16)

    return run
