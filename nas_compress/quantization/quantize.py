"""Quantization of a trained network for deployment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.models.layers import RawInput
from nas_compress.quantization import arithmetic
from nas_compress.quantization.batchnorm_folding import fold_batch_norm_
from nas_compress.quantization.calibration import MakeQuantizer, calibrate_
from nas_compress.quantization.layer_bits import bits_by_layer, check_layer_bits, takes_bits, weight_layers
from nas_compress.quantization.modules import (
    Float8Weight,
    HalfWeight,
    IntegerWeight,
    QuantizedActivation,
    QuantizedInput,
    StoredConv2d,
    StoredLinear,
    replace_modules_,
    round_biases_,
)
from nas_compress.quantization.trainable_modules import ActivationQuantizer
from nas_compress.quantization.training_aware import freeze_
from nas_compress.quantization.weight_quantizers import LARGEST_SHARED, cluster, shared_integers
from nas_compress.tasks.batch import Batch, count, rows, to_device
from nas_compress.values.precision import Quantization, check_bits


def quantize(
    model: nn.Module,
    *,
    weight_bits: int,
    activation_bits: int,
    calibration: Batch | None,
    weight_format: str = "integer",
    ranges: str = "min_max",
    layer_bits: Mapping[str, int] | None = None,
) -> nn.Module:
    """Return a quantized copy of `model` for evaluation on the CPU, with batch normalisation folded.

    A model with fake quantization (see `make_aware_`) keeps its integers. Otherwise this is post-training quantization
    by ranges (Jacob et al. 2018, arXiv 1712.05877).

    weight_bits: 16 for 16-bit floats; 8 and fewer for the weight format. The first and the last layer keep 8 bits.
    activation_bits: 32: the file stores quantized weights and computes in floats. Fewer: it computes in integers
    (simulated for 4 bits), which needs activation points and `calibration`.
    calibration: a batch of training samples. The first one also finds the layers with integer biases.
    weight_format: `integer` with a scale per output channel, `float8` (e4m3) or `codebook` (shared values).
    ranges: rule for activation ranges, a name in RANGE_RULES; with `mse` also for weights.
    layer_bits: bits by path instead of `weight_bits`; other layers stay float.

    RequestError for invalid bits, unknown paths, a single layer as the model, or missing samples. NonFiniteLossError if
    an activation is not finite.

    >>> small = quantize(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), weight_bits=8, activation_bits=32,
    ...                  calibration=None)
    >>> type(small[0]).__name__
    'StoredLinear'
    """
    # with layer_bits, a codebook is for layers of fewer than 8 bits; layers of 8 bits are integers
    format_ = "integer" if layer_bits and weight_format == "codebook" else weight_format
    check_bits(weight_bits, activation_bits, Quantization(ranges=ranges, weight_format=format_))
    if weight_bits < 32 and takes_bits(model):
        raise RequestError(
            f"a model must contain its layers, but got a {type(model).__name__} by itself; nn.Sequential holds it"
        )
    check_layer_bits(model, layer_bits or {}, activation_bits=activation_bits, weight_format=weight_format)
    network = deepcopy(model).cpu().eval().requires_grad_(False)
    bits = layer_bits or bits_by_layer(weight_layers(network), weight_bits=weight_bits)
    is_aware = any(isinstance(module, ActivationQuantizer) for module in network.modules())
    freeze_(network, computed_as_float=activation_bits == 32)
    fold_batch_norm_(network)
    if activation_bits < 32:
        if not is_aware:
            samples = None if calibration is None else to_device(calibration, "cpu")
            calibrate_(network, samples, bits=activation_bits, ranges=ranges, make=_quantizer(activation_bits))
        replace_modules_(network, RawInput, lambda raw: QuantizedInput(raw.mean, raw.std))
    store = _integers(computed_as_float=activation_bits == 32, by_error=ranges == "mse")
    if weight_format == "codebook":
        store = _shared(store, computed_as_float=activation_bits == 32)
    _store_weights_(network, bits, _float8 if weight_format == "float8" else store)
    if activation_bits < 32 and calibration is not None and count(calibration):
        round_biases_(network.eval(), to_device(rows(calibration, 0, 1), "cpu"))
    return network.eval()


Store = Callable[[Tensor, int], nn.Module]
"""From weights and bits to the module with the stored weights."""


def _quantizer(bits: int) -> MakeQuantizer:
    return lambda lowest, highest: QuantizedActivation(*arithmetic.activation_range(lowest, highest, bits), bits=bits)


def _integers(*, computed_as_float: bool, by_error: bool) -> Store:
    choose = arithmetic.nearest_scale if by_error else arithmetic.weight_scale

    def store(weights: Tensor, bits: int) -> nn.Module:
        scale = choose(weights, bits)
        integers = arithmetic.quantize_weights(weights, scale, bits)
        return IntegerWeight(integers, scale, bits=bits, computed_as_float=computed_as_float)

    return store


def _shared(integers: Store, *, computed_as_float: bool) -> Store:
    """Share values in layers of fewer than 8 bits; integers with a scale per channel are finer for 8 bits."""

    def store(weights: Tensor, bits: int) -> nn.Module:
        if bits >= 8:
            return integers(weights, bits)
        values, places = cluster(weights, bits)
        scale = arithmetic.usable_scale(shared_integers(values)[1].reshape(1))
        codebook = (values / scale).round().clamp(-LARGEST_SHARED, LARGEST_SHARED).to(torch.int8)
        return IntegerWeight(
            codebook[places],
            scale.repeat(len(weights)),
            bits=bits,
            computed_as_float=computed_as_float,
            codebook=codebook,
        )

    return store


def _float8(weights: Tensor, bits: int) -> nn.Module:
    return Float8Weight(weights)


def _store_weights_(network: nn.Module, bits: Mapping[str, int], store: Store) -> None:
    """Replace each float layer of fewer than 32 bits by a layer with stored weights."""
    wanted = {network.get_submodule(path): layer_bits for path, layer_bits in bits.items() if layer_bits < 32}

    def weight(layer: nn.Conv2d | nn.Linear) -> nn.Module:
        return HalfWeight(layer.weight) if wanted[layer] == 16 else store(layer.weight, wanted[layer])

    replace_modules_(network, nn.Conv2d, lambda conv: StoredConv2d(conv, weight(conv)) if conv in wanted else conv)
    replace_modules_(network, nn.Linear, lambda layer: StoredLinear(layer, weight(layer)) if layer in wanted else layer)
