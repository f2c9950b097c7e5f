"""Number format of the products in a training: float32, or bfloat16 where the processor has it and it pays."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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

    Attention stays float32 on a CPU, as its backward pass in bfloat16 takes 5 to 10 times as long. Strided depthwise
    convolutions have the same trouble and a backward pass of our own.
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in learners.parameters())
    token = _products.set(products)
    try:
        with _without_slow_parts(learners) if products == "bfloat16" and on_cpu else nullcontext():
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
def _without_slow_parts(learners: nn.Module) -> Iterator[None]:
    layers: list[Any] = [layer for layer in learners.modules() if _is_strided_depthwise(layer)]
    try:
        for layer in layers:
            # methods, which a deep copy of the layer binds to the copy
            layer.forward = MethodType(_in_bfloat16 if _has_fast_gradient(layer) else _in_float32, layer)
        with _attention.in_float32():
            yield
    finally:
        for layer in layers:
            del layer.forward


class _Attention:
    """The attention of `torch.nn.functional` while trainings are in progress; they may be nested or run in threads."""

    def __init__(self) -> None:
        self.plain = functional.scaled_dot_product_attention
        self._lock, self._trainings = threading.Lock(), 0

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Replace the function until the last training ends."""
        with self._lock:
            if not self._trainings:
                self.plain = functional.scaled_dot_product_attention
                functional.scaled_dot_product_attention = _attention_in_float32
            self._trainings += 1
        try:
            yield
        finally:
            with self._lock:
                self._trainings -= 1
                if not self._trainings:
                    functional.scaled_dot_product_attention = self.plain


_attention = _Attention()


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
    given = functools.partial(
        _attention.plain, dropout_p=dropout_p, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
    )
    # other threads have formats of their own
    if _products.get() != "bfloat16" or not torch.is_autocast_enabled("cpu"):
        return given(query, key, value, attn_mask)
    query, key, value = (part.float() if part.dtype == torch.bfloat16 else part for part in (query, key, value))
    if attn_mask is not None and attn_mask.dtype == torch.bfloat16:
        attn_mask = attn_mask.float()
    with torch.autocast("cpu", enabled=False):
        answer = given(query, key, value, attn_mask)
    return answer.to(torch.bfloat16) if answer.dtype == torch.float32 else answer


def _is_strided_depthwise(layer: Any) -> bool:
    """True for a strided convolution of one channel in each group that has not been given another forward pass."""
    own = isinstance(layer, nn.Conv2d) and "forward" not in vars(layer)
    return own and 1 < layer.groups == layer.in_channels and max(layer.stride) > 1


def _has_fast_gradient(layer: nn.Conv2d) -> bool:
    """True for a strided depthwise convolution of torch itself with zeros around, fewer than its kernel is long."""
    plain = type(layer) is nn.Conv2d and layer.out_channels == layer.in_channels
    if not plain or layer.padding_mode != "zeros" or isinstance(layer.padding, str) or set(layer.dilation) != {1}:
        return False
    return all(padding < size for size, padding in zip(layer.kernel_size, layer.padding, strict=True))


def _in_bfloat16(layer: nn.Conv2d, values: Tensor) -> Tensor:
    if values.dim() != 4:  # a sample without a batch
        return _in_float32(layer, values)
    if not torch.is_autocast_enabled("cpu"):
        return type(layer).forward(layer, values)
    bias = None if layer.bias is None else layer.bias.to(torch.bfloat16)
    answer: Tensor = _StridedDepthwise.apply(
        values.to(torch.bfloat16), layer.weight.to(torch.bfloat16), bias, layer.stride, layer.padding
    )  # type: ignore[no-untyped-call]
    return answer


def _in_float32(layer: nn.Conv2d, values: Tensor) -> Tensor:
    if not torch.is_autocast_enabled("cpu"):
        return type(layer).forward(layer, values)
    with torch.autocast("cpu", enabled=False):
        return type(layer).forward(layer, values.float()).to(torch.bfloat16)


class _StridedDepthwise(torch.autograd.Function):
    """A strided depthwise convolution with a fast gradient of its inputs.

    That of oneDNN 3.12 (torch 2.13) takes 20 times as long in bfloat16 as in float32. The same gradient is that of a
    convolution of stride 1 whose other outputs nobody reads: the gradient of the outputs is spread over their grid,
    with zeros between, and convolved with the flipped kernel.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.stride, ctx.padding, ctx.has_bias = stride, padding, bias is not None
        return _convolved(values, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None, None]:
        values, weight = ctx.saved_tensors
        channels = len(weight)
        _, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradient, values, weight, [channels], ctx.stride, ctx.padding, (1, 1), False, (0, 0), channels,
            (False, True, ctx.has_bias),
        )  # fmt: skip
        of_values = _of_values(gradient, values, weight, ctx) if ctx.needs_input_grad[0] else None
        return of_values, of_weight, of_bias, None, None


def _of_values(gradient: Tensor, values: Tensor, weight: Tensor, ctx: Any) -> Tensor:
    """Return the gradient of the inputs: at their grid, through the flipped kernel."""
    own = [size - 1 - padding for size, padding in zip(weight.shape[2:], ctx.padding, strict=True)]
    # outputs of a stride of 1: as many as the flipped kernel needs to give the size of the inputs
    high, wide = (
        size + kernel - 1 - 2 * side for size, kernel, side in zip(values.shape[2:], weight.shape[2:], own, strict=True)
    )
    spread = torch.empty(
        (*gradient.shape[:2], high, wide), dtype=gradient.dtype, memory_format=torch.channels_last
    ).zero_()
    down, across = ctx.stride
    rows, columns = gradient.shape[2:]
    spread[:, :, : (rows - 1) * down + 1 : down, : (columns - 1) * across + 1 : across] = gradient
    return _convolved(spread, weight.flip(2, 3), None, (1, 1), tuple(own))


def _convolved(
    values: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    return torch.conv2d(values, weight, bias, stride, padding, groups=len(weight))
