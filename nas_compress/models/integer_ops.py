"""Torch operators for the runtime's integer tensors, with the runtime's results.

Each is a single operator, so that an exporter can write it as one ONNX operator (QuantizeLinear, DequantizeLinear).
They have no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("nas_compress::dequantize_input", mutates_args=())
def dequantize_input(samples: Tensor, scale: float, zero_point: int) -> Tensor:
    """Raw uint8 samples as quantized values: `(samples - zero_point) * scale`, float32 of the same shape."""
    return (samples.to(torch.float32) - zero_point) * scale


@torch.library.custom_op("nas_compress::fake_quantize_activation", mutates_args=())
def fake_quantize_activation(values: Tensor, scale: float, zero_point: int, highest: int) -> Tensor:
    """Round floats to the integers 0 to `highest` and return their values, in the same shape.

    Ties round to the even integer and values outside saturate, as in ONNX QuantizeLinear.
    """
    integers = (torch.round(values / scale) + zero_point).clamp(0, highest)
    return (integers - zero_point) * scale


@torch.library.custom_op("nas_compress::round_in_own_range", mutates_args=())
def round_in_own_range(values: Tensor, rows: int) -> Tensor:
    """Round each sample of a batch to 8 bits in its own range, as ONNX DynamicQuantizeLinear does for one sample.

    The range includes 0. values: float32 (B * rows, ...), `rows` of each sample; so is the result.
    """
    samples = values.reshape(-1, rows * values[0].numel())
    lowest = samples.amin(1, keepdim=True).clamp(max=0)
    highest = samples.amax(1, keepdim=True).clamp(min=0)
    scale = torch.where(highest > lowest, (highest - lowest) / 255, 1.0)
    zero_point = (-lowest / scale).clamp(0, 255).round()
    rounded = ((samples / scale).round() + zero_point).clamp(0, 255).sub(zero_point) * scale
    return rounded.reshape(values.shape)


@torch.library.custom_op("nas_compress::stored_weight", mutates_args=())
def stored_weight(integers: Tensor, scale: Tensor, codebook: Tensor, bits: int, computed_as_float: bool) -> Tensor:
    """Weights of a file with `bits`-bit integers: int8 (outputs, ...) times scale (outputs,), in float32.

    codebook: the layer's 2^bits shared integers, int8 (2^bits,), or (0,) for the integers of its width. The runtime
    computes with the integers, or turns them into floats once at load time (`computed_as_float`).
    """
    return integers.to(torch.float32) * _per_output(scale, integers)


@torch.library.custom_op("nas_compress::float8_weight", mutates_args=())
def float8_weight(codes: Tensor, scale: Tensor) -> Tensor:
    """Weights of a file with e4m3 floats: their bytes, uint8 (outputs, ...), times scale (outputs,)."""
    return codes.view(torch.float8_e4m3fn).to(torch.float32) * _per_output(scale, codes)


@torch.library.custom_op("nas_compress::stored_rows", mutates_args=())
def stored_rows(ids: Tensor, integers: Tensor, scale: Tensor, bits: int, dimensions: int) -> Tensor:
    """Rows of a table of `bits`-bit integers: int8 (rows, width) times scale (rows,), float32 (*ids.shape, width).

    The file unpacks the rows of the ids alone. dimensions: of the ids, for the file.
    """
    return integers[ids.long()].to(torch.float32) * scale[ids.long()].unsqueeze(-1)


@torch.library.custom_op("nas_compress::integer_bias", mutates_args=())
def integer_bias(bias: Tensor, scale: Tensor, input_scale: float) -> Tensor:
    """Biases (outputs,) of integer kernels: the nearest int32 multiples of input scale x weight scale.

    scale: of the weights, (outputs,). The result is float32. The file holds `bias` itself; the runtime rounds it at
    load time.
    """
    step, limits = (scale * input_scale).double(), torch.iinfo(torch.int32)
    integers = torch.round(bias.double() / step).clamp(limits.min, limits.max)
    return (integers * step).to(torch.float32)


def _per_output(scale: Tensor, weights: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (weights.dim() - 1))


@dequantize_input.register_fake
def _(samples: Tensor, scale: float, zero_point: int) -> Tensor:
    return torch.empty_like(samples, dtype=torch.float32)


@fake_quantize_activation.register_fake
def _(values: Tensor, scale: float, zero_point: int, highest: int) -> Tensor:
    return torch.empty_like(values)


@round_in_own_range.register_fake
def _(values: Tensor, rows: int) -> Tensor:
    return torch.empty_like(values)


@stored_weight.register_fake
def _(integers: Tensor, scale: Tensor, codebook: Tensor, bits: int, computed_as_float: bool) -> Tensor:
    return torch.empty_like(integers, dtype=torch.float32)


@float8_weight.register_fake
def _(codes: Tensor, scale: Tensor) -> Tensor:
    return torch.empty_like(codes, dtype=torch.float32)


@stored_rows.register_fake
def _(ids: Tensor, integers: Tensor, scale: Tensor, bits: int, dimensions: int) -> Tensor:
    return scale.new_empty((*ids.shape, integers.shape[1]), dtype=torch.float32)


@integer_bias.register_fake
def _(bias: Tensor, scale: Tensor, input_scale: float) -> Tensor:
    return torch.empty_like(bias, dtype=torch.float32)
