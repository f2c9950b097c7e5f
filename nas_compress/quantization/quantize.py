"""Quantization of a trained network for deployment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.models.detached_copy import detached_copy
from nas_compress.models.layers import RawInput
from nas_compress.models.networks.recurrent_layer import RecurrentLayer
from nas_compress.quantization import arithmetic
from nas_compress.quantization.batchnorm_folding import fold_batch_norm_
from nas_compress.quantization.calibration import MakeQuantizer, calibrate_
from nas_compress.quantization.find_weights import Weight, find_weights, has_integer_kernel, with_bits
from nas_compress.quantization.layer_bits import bits_by_layer, check_layer_bits, weight_layers
from nas_compress.quantization.modules import (
    DynamicActivation,
    Float8Weight,
    HalfWeight,
    IntegerWeight,
    QuantizedActivation,
    QuantizedInput,
    StoredConv2d,
    StoredEmbedding,
    StoredLinear,
    find_ranges_at_run_time_,
    replace_modules_,
    round_biases_,
)
from nas_compress.quantization.parametrized import StoredParameter, is_stored, store_parameter_, stored_form
from nas_compress.quantization.traced.activation_points import with_activation_points
from nas_compress.quantization.trainable_modules import ActivationQuantizer
from nas_compress.quantization.training_aware import freeze_
from nas_compress.quantization.weight_quantizers import LARGEST_SHARED, cluster, shared_integers
from nas_compress.tasks.batch import Batch, count, rows, to_device
from nas_compress.values.precision import DYNAMIC, Quantization, check_bits


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
    (simulated for 4 bits), which needs `calibration`. A network without activation points is traced.
    calibration: a batch of training samples. The first one also finds the layers with integer biases.
    weight_format: `integer` with a scale per output channel, `float8` (e4m3) or `codebook` (shared values).
    ranges: rule for activation ranges, a name in RANGE_RULES; with `mse` also for weights. `dynamic`: the file finds
    them for each call; it needs a network whose activation points have samples as their first dimension.
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
    if weight_bits < 32 and any(weight.is_plain and weight.module is model for weight in find_weights(model)):
        raise RequestError(
            f"a model must contain its layers, but got a {type(model).__name__} by itself; nn.Sequential holds it"
        )
    network = detached_copy(model).cpu().eval().requires_grad_(False)
    samples = None if calibration is None else to_device(calibration, "cpu")
    is_aware = any(isinstance(module, ActivationQuantizer | DynamicActivation) for module in network.modules())
    if activation_bits < 32 and not is_aware and samples is not None and count(samples):
        network = with_activation_points(network, samples)
    check_layer_bits(
        network,
        layer_bits or {},
        activation_bits=activation_bits,
        weight_format=weight_format,
        samples=samples,
    )
    bits = layer_bits or (
        bits_by_layer(weight_layers(network, samples), weight_bits=weight_bits) if weight_bits < 32 else {}
    )
    freeze_(network, computed_as_float=activation_bits == 32)
    fold_batch_norm_(network)
    if activation_bits < 32:
        if ranges == DYNAMIC:
            find_ranges_at_run_time_(network)
        elif not is_aware:
            calibrate_(network, samples, bits=activation_bits, ranges=ranges, make=_quantizer(activation_bits))
        replace_modules_(network, RawInput, lambda raw: QuantizedInput(raw.mean, raw.std))
    by_error = ranges == "mse"
    stores = {"integer": _integers(by_error), "float8": _float8, "codebook": _shared(_integers(by_error))}
    _store_weights_(network, bits, stores[weight_format], samples, floats=activation_bits == 32)
    _look_up_stored_rows_(network)
    if activation_bits < 32:
        _multiply_integers_(network)
    if activation_bits < 32 and samples is not None and count(samples):
        round_biases_(network.eval(), rows(samples, 0, 1))
    return network.eval()


Store = Callable[[Tensor, int, bool], nn.Module]
"""From weights, bits and `computed_as_float` to the module with the stored weights."""


def _quantizer(bits: int) -> MakeQuantizer:
    return lambda lowest, highest: QuantizedActivation(*arithmetic.activation_range(lowest, highest, bits), bits=bits)


def _integers(by_error: bool) -> Store:
    choose = arithmetic.nearest_scale if by_error else arithmetic.weight_scale

    def store(weights: Tensor, bits: int, computed_as_float: bool) -> nn.Module:
        scale = choose(weights, bits)
        integers = arithmetic.quantize_weights(weights, scale, bits)
        return IntegerWeight(integers, scale, bits=bits, computed_as_float=computed_as_float)

    return store


def _shared(integers: Store) -> Store:
    """Share values in layers of fewer than 8 bits; integers with a scale per channel are finer for 8 bits."""

    def store(weights: Tensor, bits: int, computed_as_float: bool) -> nn.Module:
        if bits >= 8:
            return integers(weights, bits, computed_as_float)
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


def _float8(weights: Tensor, bits: int, computed_as_float: bool) -> nn.Module:
    return Float8Weight(weights)


def _store_weights_(
    network: nn.Module, bits: Mapping[str, int], store: Store, samples: Batch | None, *, floats: bool
) -> None:
    """Replace all float weights of fewer than 32 bits by stored ones: whole layers if they are plain, else parameters.

    floats: the runtime multiplies by floats everywhere.
    """
    narrow = {layer: few for layer, few in bits.items() if few < 32}
    wanted = with_bits(network, narrow, samples) if narrow else []
    plain = {weight.module: few for weight, few in wanted if weight.is_plain}

    def stored(layer: nn.Module, weights: Tensor, few: int) -> nn.Module:
        return HalfWeight(weights) if few == 16 else store(weights, few, floats or not has_integer_kernel(layer))

    def linear(layer: nn.Linear) -> nn.Module:
        return StoredLinear(layer, stored(layer, layer.weight, plain[layer])) if layer in plain else layer

    def convolution(conv: nn.Conv2d) -> nn.Module:
        return StoredConv2d(conv, stored(conv, conv.weight, plain[conv])) if conv in plain else conv

    replace_modules_(network, nn.Conv2d, convolution)
    replace_modules_(network, nn.Linear, linear)
    shared: dict[Tensor, nn.Module] = {}
    for weight, few in wanted:
        if weight.is_plain:
            continue
        if not is_stored(weight.module, weight.name):  # as one frozen after training
            tensor = weight.tensor
            if tensor not in shared:  # layers that share a parameter share its stored form
                shared[tensor] = stored(weight.module, tensor, few)
            store_parameter_(weight.module, weight.name, shared[tensor])
        _store_bias_(weight)


def _multiply_integers_(network: nn.Module) -> None:
    """Let each recurrent layer multiply integers if the runtime has a kernel and all its weights are integers."""
    for layer in network.modules():
        if isinstance(layer, RecurrentLayer) and layer.has_integer_kernel:
            stored = [stored_form(layer, name) for name in layer.weight_names]
            layer.integer = all(isinstance(each, IntegerWeight) and not each.computed_as_float for each in stored)


def _look_up_stored_rows_(network: nn.Module) -> None:
    """Let every embedding with a stored table of its own unpack single rows; a table with another reader stays."""
    readers = Counter(id(part.stored) for part in network.modules() if isinstance(part, StoredParameter))
    for path, module in list(network.named_modules()):
        if not isinstance(module, nn.Embedding) or module.max_norm is not None or not is_stored(module, "weight"):
            continue
        functions = module.get_submodule("parametrizations.weight")
        last = functions[0] if isinstance(functions, nn.ModuleList) and len(functions) == 1 else None
        table = last.stored if isinstance(last, StoredParameter) else None
        is_plain = isinstance(table, HalfWeight) or (isinstance(table, IntegerWeight) and not table.codebook.numel())
        if path and is_plain and readers[id(table)] == 1:
            network.set_submodule(path, StoredEmbedding(cast(IntegerWeight | HalfWeight, table)))


def _store_bias_(weight: Weight) -> None:
    """Store the bias next to a weight as 16-bit floats, as in plain layers."""
    name = weight.name.replace("weight", "bias")
    bias = getattr(weight.module, name, None)
    if name != weight.name and isinstance(bias, nn.Parameter) and bias.ndim == 1:
        store_parameter_(weight.module, name, HalfWeight(bias))
