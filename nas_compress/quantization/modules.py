"""Modules of a quantized network, for evaluation and export; they are not trained."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.models.integer_ops import (
    dequantize_input,
    fake_quantize_activation,
    float8_weight,
    integer_bias,
    round_in_own_range,
    stored_rows,
    stored_weight,
)
from nas_compress.models.layers import ActivationPoint
from nas_compress.quantization import arithmetic
from nas_compress.quantization.trainable_modules import FakeQuantConv2d, FakeQuantLinear
from nas_compress.tasks.batch import Batch

Kind = TypeVar("Kind", bound=nn.Module)


def replace_modules_(network: nn.Module, kind: type[Kind], make: Callable[[Kind], nn.Module]) -> None:
    """Replace each module of exactly this kind inside `network` by `make(module)`.

    Subclasses stay, because their owners may read more than their output. A module at several paths is replaced by one
    new module.
    """
    made: dict[nn.Module, nn.Module] = {}
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if type(module) is kind and path:
            if module not in made:
                made[module] = make(module)
            network.set_submodule(path, made[module])


class IntegerWeight(nn.Module):
    """Weights of one layer as int8 integers (outputs, ...) with one float scale per output channel.

    codebook: integers shared by the layer's weights, int8 (2^bits,); None: all integers of `bits` bits.
    computed_as_float: True: the runtime converts the weights to floats once, when it loads the file. False: it computes
    with the integers.
    """

    integers: Tensor
    scale: Tensor
    codebook: Tensor

    def __init__(
        self, integers: Tensor, scale: Tensor, *, bits: int, computed_as_float: bool, codebook: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("integers", integers)
        self.register_buffer("scale", scale)
        self.register_buffer("codebook", torch.zeros(0, dtype=torch.int8) if codebook is None else codebook)
        self.bits, self.computed_as_float = bits, computed_as_float

    def forward(self) -> Tensor:
        """Return the weights in float32."""
        return cast(Tensor, stored_weight(self.integers, self.scale, self.codebook, self.bits, self.computed_as_float))


class Float8Weight(nn.Module):
    """Weights of one layer as bytes of e4m3 floats (outputs, ...) with one scale per output channel."""

    codes: Tensor
    scale: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        codes, scale = arithmetic.float8_weights(weights)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)

    def forward(self) -> Tensor:
        """Return the weights in float32."""
        return cast(Tensor, float8_weight(self.codes, self.scale))


class HalfWeight(nn.Module):
    """Weights of one layer as 16-bit floats (outputs, ...)."""

    halves: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("halves", arithmetic.to_half(weights))

    def forward(self) -> Tensor:
        """Return the weights in float32."""
        return self.halves.to(torch.float32)


class StoredConv2d(nn.Module):
    """A convolution with stored weights and a bias of 16-bit floats.

    weight: module that returns the weights.
    input_scale: scale of its integer input if the runtime adds the bias in integers, else None.
    """

    bias: Tensor | None
    input_scale: float | None = None

    def __init__(self, conv: nn.Conv2d | FakeQuantConv2d, weight: nn.Module) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("bias", _half(conv.bias))
        self.stride, self.padding = conv.stride, conv.padding
        self.dilation, self.groups = conv.dilation, conv.groups

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, h, w) as the float convolution does."""
        bias = _runtime_bias(self.bias, self.weight, self.input_scale)
        return F.conv2d(values, self.weight(), bias, self.stride, self.padding, self.dilation, self.groups)


class StoredLinear(nn.Module):
    """A linear layer with stored weights and a bias of 16-bit floats.

    weight: module that returns the weights.
    input_scale: scale of its integer input if the runtime adds the bias in integers, else None.
    """

    bias: Tensor | None
    input_scale: float | None = None

    def __init__(self, linear: nn.Linear | FakeQuantLinear, weight: nn.Module) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("bias", _half(linear.bias))

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return F.linear(values, self.weight(), _runtime_bias(self.bias, self.weight, self.input_scale))


class StoredEmbedding(nn.Module):
    """A look-up of rows of stored integers or 16-bit floats. The file unpacks rows, and not the table.

    stored: module that returns the whole table.
    """

    def __init__(self, stored: IntegerWeight | HalfWeight) -> None:
        super().__init__()
        self.stored = stored

    @property
    def weight(self) -> Tensor:
        """The whole table in float32."""
        return cast(Tensor, self.stored())

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (...) to float32 (..., width)."""
        if isinstance(self.stored, HalfWeight):
            return F.embedding(ids, self.stored.halves).to(torch.float32)
        table = self.stored
        return cast(Tensor, stored_rows(ids, table.integers, table.scale, table.bits, ids.ndim))


def _runtime_bias(bias: Tensor | None, weight: nn.Module, input_scale: float | None) -> Tensor | None:
    """Bias as the runtime adds it, float32 (outputs,)."""
    if bias is None or input_scale is None or not isinstance(weight, IntegerWeight):
        return None if bias is None else bias.to(torch.float32)
    return cast(Tensor, integer_bias(bias, weight.scale, input_scale))


def _half(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else arithmetic.to_half(bias)


class QuantizedInput(nn.Module):
    """The raw uint8 sample as the first quantized tensor: scale 1 / std, zero point mean."""

    def __init__(self, mean: int, std: float) -> None:
        super().__init__()
        self.scale, self.zero_point = arithmetic.as_float32(1.0 / std), mean

    def forward(self, samples: Tensor) -> Tensor:
        """Map uint8 (N, C, H, W) to normalised float32 values of the same shape."""
        return cast(Tensor, dequantize_input(samples, self.scale, self.zero_point))


class QuantizedActivation(nn.Module):
    """Round the tensor between two layers to unsigned integers with one scale."""

    def __init__(self, scale: float, zero_point: int, *, bits: int) -> None:
        super().__init__()
        self.scale, self.zero_point = scale, zero_point
        self.highest = arithmetic.largest_activation(bits)

    def forward(self, values: Tensor) -> Tensor:
        """Return rounded float32 values of the same shape."""
        rounded = fake_quantize_activation(values, self.scale, self.zero_point, self.highest)
        return cast(Tensor, rounded)


class DynamicActivation(nn.Module):
    """Round each sample's tensor between two layers to 8 bits in its own range, which the file finds while it runs.

    In training, gradients pass unchanged (Bengio et al. 2013, arXiv 1308.3432).

    rows: rows of the first dimension that each sample has.
    """

    def __init__(self, *, rows: int = 1) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, values: Tensor) -> Tensor:
        """Return rounded float32 values (B * rows, ...) of the same shape."""
        floats = values.float()
        if not (torch.is_grad_enabled() and floats.requires_grad):
            return cast(Tensor, round_in_own_range(floats, self.rows))
        return floats + cast(Tensor, round_in_own_range(floats.detach(), self.rows) - floats.detach())


def find_ranges_at_run_time_(network: nn.Module) -> None:
    """Let the file find the range of each tensor that a product reads, in place of every activation point."""
    replace_modules_(
        network,
        ActivationPoint,
        lambda point: DynamicActivation(rows=point.rows) if point.multiplied else nn.Identity(),
    )


StoredLayer = StoredConv2d | StoredLinear


@torch.no_grad()
def round_biases_(network: nn.Module, sample: Batch) -> None:
    """Round the bias of each layer with integer inputs to a multiple of input scale x weight scale.

    The runtime's integer kernels sum products in int32 and add the bias to them (Jacob et al. 2018, arXiv 1712.05877,
    section 2.4). With weights of few bits the multiple can exceed the step of the layer's own output.

    sample: a batch of one sample; one pass finds the input scale of each layer.
    The bias stays as it is in layers with inputs of several scales, and in linear layers with inputs other than
    (n, inputs), because the runtime adds it in floats there.
    """
    rounded: dict[int, tuple[Tensor, float]] = {}
    scales_by_layer: dict[StoredLayer, set[float | None]] = {}

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], answer: Tensor) -> None:
        if isinstance(module, QuantizedActivation | QuantizedInput):
            # a reference, so that no other tensor reuses its memory
            rounded[answer.data_ptr()] = answer, module.scale

    def look_up(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(layer, StoredConv2d | StoredLinear):
            scales_by_layer.setdefault(layer, set()).add(_scale_of(layer, inputs[0], rounded))

    with ExitStack() as hooks:
        for module in network.modules():
            hooks.callback(module.register_forward_hook(remember).remove)
            hooks.callback(module.register_forward_pre_hook(look_up).remove)
        network(*sample.values())
    for layer, scales in scales_by_layer.items():
        layer.input_scale = next(iter(scales)) if len(scales) == 1 else None


def _scale_of(layer: StoredLayer, values: Tensor, rounded: dict[int, tuple[Tensor, float]]) -> float | None:
    """Return the scale of a layer's integer input, or None if the runtime adds a float bias."""
    source, scale = rounded.get(values.data_ptr(), (None, None))
    # a view of a part can start at the same address
    is_whole = source is not None and source.numel() == values.numel()
    is_integer = isinstance(layer.weight, IntegerWeight) and (isinstance(layer, StoredConv2d) or values.dim() == 2)
    return scale if is_whole and is_integer else None
