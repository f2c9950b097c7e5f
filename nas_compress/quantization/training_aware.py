"""Quantization-aware training: fake quantization of a float network, and freezing to its integers.

Batch normalisation stays a layer during training. Its factor is one number per output channel, like the scale of the
weights. Folding after training therefore changes the scale only, and the integers stay. Krishnamoorthi 2018 (arXiv
1806.08342, section 3.2.2) folds before rounding, which is the same for scales per channel.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from nas_compress.errors import require_known
from nas_compress.models.factorised import last_layer
from nas_compress.models.layers import ConvUnit
from nas_compress.quantization import arithmetic
from nas_compress.quantization.batchnorm_folding import pass_on_, traced_pairs
from nas_compress.quantization.calibration import MakeQuantizer, calibrate_
from nas_compress.quantization.find_weights import has_integer_kernel, with_bits
from nas_compress.quantization.modules import (
    IntegerWeight,
    QuantizedActivation,
    StoredConv2d,
    StoredLinear,
    find_ranges_at_run_time_,
    replace_modules_,
)
from nas_compress.quantization.parametrized import freeze_parameters_, round_parameter_
from nas_compress.quantization.trainable_modules import (
    ActivationQuantizer,
    FakeQuantConv2d,
    FakeQuantLinear,
    LearnedStepActivation,
    RunningRangeActivation,
)
from nas_compress.quantization.weight_quantizers import (
    LargestWeight,
    LearnedStepWeight,
    SharedWeight,
    SignWeight,
    WeightQuantizer,
    nearest_place,
)
from nas_compress.tasks.batch import Batch
from nas_compress.values.precision import DYNAMIC, END_BITS, METHODS


def make_aware_(
    network: nn.Module,
    *,
    method: str,
    bits: Mapping[str, int],
    activation_bits: int,
    calibration: Batch | None,
    ranges: str = "mse",
    weight_format: str = "integer",
    with_zeros: bool = False,
) -> None:
    """Give a network fake quantization of its weights and activations, in place.

    The network's parameters stay; learned steps and shared values are added.

    method: `lsq` or `ste`.
    bits: weight bits of each layer by path; layers of 16 and 32 bits stay unchanged.
    calibration: a batch on the network's device, for the first ranges of activations of fewer than 32 bits.
    ranges: rule for these ranges, a name in RANGE_RULES, or `dynamic` for those of each sample.
    weight_format: with `codebook`, layers of fewer than 8 bits share values.
    with_zeros: add the value 0 to each codebook, for weights to be pruned later.
    """
    require_known("a quantization in training", method, [name for name in METHODS if name != "calibrate"])
    if ranges == DYNAMIC and activation_bits < 32:
        find_ranges_at_run_time_(network)
    elif activation_bits < 32:
        make = _learned_activation if method == "lsq" else _running_range
        was_training, device = network.training, next(network.parameters()).device
        calibrate_(network.eval(), calibration, bits=activation_bits, ranges=ranges, make=make(activation_bits, device))
        network.train(was_training)
    chosen = [(weight, few) for weight, few in with_bits(network, bits, calibration) if few <= END_BITS]
    plain = {weight.module: few for weight, few in chosen if weight.is_plain}

    def quantizer(weights: Tensor, few: int) -> WeightQuantizer:
        if weight_format == "codebook" and few < END_BITS:
            return SharedWeight(weights, few, with_zero=with_zeros)
        return _weight_quantizer(weights, few, method)

    if weight_format == "codebook":
        _make_factors_positive_(network)
    replace_modules_(
        network,
        nn.Conv2d,
        lambda conv: FakeQuantConv2d(conv, quantizer(conv.weight, plain[conv])) if conv in plain else conv,
    )
    replace_modules_(
        network,
        nn.Linear,
        lambda layer: FakeQuantLinear(layer, quantizer(layer.weight, plain[layer])) if layer in plain else layer,
    )
    shared: dict[Tensor, WeightQuantizer] = {}
    for weight, few in chosen:
        if not weight.is_plain:
            tensor = weight.tensor
            if tensor not in shared:  # layers that share a parameter share its integers
                shared[tensor] = quantizer(tensor.detach(), few)
            round_parameter_(weight.module, weight.name, shared[tensor])


def freeze_(network: nn.Module, *, computed_as_float: bool) -> None:
    """Replace every module with fake quantization by its integers; needs evaluation mode."""
    for conv_path, norm_path in _normalised(network):
        conv, norm = network.get_submodule(conv_path), network.get_submodule(norm_path)
        if isinstance(conv, FakeQuantConv2d) and isinstance(norm, nn.BatchNorm2d):
            network.set_submodule(conv_path, _fold(conv, norm, computed_as_float))
            pass_on_(network, norm_path)

    def frozen(layer: nn.Module, quantizer: WeightQuantizer, weights: Tensor) -> IntegerWeight:
        return _frozen(quantizer, weights, computed_as_float or not has_integer_kernel(layer))

    replace_modules_(
        network, FakeQuantConv2d, lambda conv: StoredConv2d(conv, frozen(conv, conv.quantizer, conv.weight.detach()))
    )
    replace_modules_(
        network,
        FakeQuantLinear,
        lambda layer: StoredLinear(layer, frozen(layer, layer.quantizer, layer.weight.detach())),
    )
    freeze_parameters_(network, frozen)
    for kind in (LearnedStepActivation, RunningRangeActivation):
        replace_modules_(network, kind, _frozen_activation)


def _normalised(network: nn.Module) -> list[tuple[str, str]]:
    """Paths of each unit's last layer and of its normalisation; in a traced network those of every pair."""
    if isinstance(network, fx.GraphModule):
        return traced_pairs(network)
    units = [path for path, unit in network.named_modules() if isinstance(unit, ConvUnit)]
    insides = [f"{path}." if path else "" for path in units]
    return [(last_layer(network, f"{inside}conv"), f"{inside}norm") for inside in insides]


def _weight_quantizer(weights: Tensor, bits: int, method: str) -> WeightQuantizer:
    if bits == 1:
        return SignWeight()
    return LearnedStepWeight(weights, bits) if method == "lsq" else LargestWeight(bits)


def _learned_activation(bits: int, device: torch.device) -> MakeQuantizer:
    return lambda lowest, highest: LearnedStepActivation(
        *arithmetic.activation_range(lowest, highest, bits), bits=bits
    ).to(device)


def _running_range(bits: int, device: torch.device) -> MakeQuantizer:
    return lambda lowest, highest: RunningRangeActivation(lowest, highest, bits=bits).to(device)


def _frozen(quantizer: WeightQuantizer, weights: Tensor, computed_as_float: bool) -> IntegerWeight:
    scale = arithmetic.usable_scale(quantizer.scale(weights))
    return IntegerWeight(
        quantizer.integers(weights),
        scale,
        bits=quantizer.bits,
        computed_as_float=computed_as_float,
        codebook=quantizer.codebook,
    )


def _fold(conv: FakeQuantConv2d, norm: nn.BatchNorm2d, computed_as_float: bool) -> StoredConv2d:
    """Freeze a convolution and fold the normalisation into its scales and biases."""
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError("batch normalisation must keep statistics to be folded")
    factor = norm.weight.detach() * torch.rsqrt(norm.running_var + norm.eps)
    before = torch.zeros_like(factor) if conv.bias is None else conv.bias.detach()
    quantizer, weights = conv.quantizer, conv.weight.detach()
    integers = quantizer.integers(weights) * arithmetic.per_channel(torch.sign(factor), weights.dim()).to(torch.int8)
    if quantizer.codebook is not None:
        integers = _nearest_shared(integers, quantizer.codebook)
    else:
        # the negative of the lowest integer is out of range
        integers = integers.clamp(*arithmetic.weight_levels(quantizer.bits))
        if quantizer.bits == 1:
            integers = torch.where(integers == 0, 1, integers).to(torch.int8)
    scale = arithmetic.usable_scale(quantizer.scale(weights) * factor.abs())
    weight = IntegerWeight(
        integers, scale, bits=quantizer.bits, computed_as_float=computed_as_float, codebook=quantizer.codebook
    )
    stored = StoredConv2d(conv, weight)
    stored.bias = arithmetic.to_half(norm.bias.detach() + (before - norm.running_mean) * factor)
    return stored


@torch.no_grad()
def _make_factors_positive_(network: nn.Module) -> None:
    """Move the signs of batch normalisation's negative factors to the weights before it.

    A codebook need not contain the negatives of its values, so signs cannot be folded into it later.
    """
    for conv_path, norm_path in _normalised(network):
        conv, norm = network.get_submodule(conv_path), network.get_submodule(norm_path)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            sign = torch.where(norm.weight < 0, -1.0, 1.0)
            for tensor in (conv.weight, conv.bias, norm.weight, norm.running_mean):
                if tensor is not None:
                    tensor.mul_(arithmetic.per_channel(sign, tensor.dim()))


def _nearest_shared(integers: Tensor, codebook: Tensor) -> Tensor:
    """Replace integers outside the codebook, due to factors that became negative, by its nearest ones, int8."""
    rising = codebook.sort().values
    return rising[nearest_place(integers.float(), rising.float())]


def _frozen_activation(quantizer: ActivationQuantizer) -> nn.Module:
    scale, zero_point = quantizer.scale_and_zero_point()
    return QuantizedActivation(scale, zero_point, bits=quantizer.bits)
