"""One function from a float network to the deployable one of the asked bit-widths."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.models.blocks import RawInput
from nas_compress.precision import check_bits
from nas_compress.quantization import arithmetic
from nas_compress.quantization.calibration import quantize_activations_
from nas_compress.quantization.folding import fold_batch_norm_
from nas_compress.quantization.layer_bits import bits_by_layer, weight_layers
from nas_compress.quantization.modules import (
    Float8Weight,
    HalfWeight,
    IntegerWeight,
    QuantizedInput,
    StoredConv2d,
    StoredLinear,
)
from nas_compress.quantization.replacing import replace_modules_


def quantize(
    model: nn.Module,
    *,
    weight_bits: int,
    activation_bits: int,
    calibration: Tensor | None,
    weight_format: str = "integer",
) -> nn.Module:
    """A new module for evaluation on the CPU with those bit-widths; `model` stays as it is.

    Batch normalisation is folded. Weights of 8 bits and fewer are integers with a scale per output channel, or e4m3
    floats (`weight_format` float8), those of 16 bits floats. The first and last layer keep 8 bits where the others
    have fewer. With 32-bit activations the file stores such weights and computes in floats; with fewer it computes in
    integers: that needs a network with activation points and `calibration`, real training samples as uint8
    (n, C, H, W). Post-training quantization by ranges (Jacob et al. 2018, arXiv 1712.05877).

    Raises RequestError for other bit-widths or missing samples, NonFiniteLossError where an activation is not
    finite.
    """
    check_bits(weight_bits, activation_bits, weight_format)
    network = deepcopy(model).cpu().eval().requires_grad_(False)
    fold_batch_norm_(network)
    if activation_bits < 32:
        quantize_activations_(network, _samples(calibration, activation_bits), bits=activation_bits)
        replace_modules_(network, RawInput, lambda raw: QuantizedInput(raw.mean, raw.std))
    bits = bits_by_layer(weight_layers(network), weight_bits=weight_bits)
    _store_weights_(network, bits, computed_as_float=activation_bits == 32, weight_format=weight_format)
    return network.eval()


def _samples(calibration: Tensor | None, bits: int) -> Tensor:
    if calibration is None or len(calibration) == 0:
        raise RequestError(f"activation_bits={bits} needs at least one calibration sample, but got none")
    return calibration.cpu()


def _store_weights_(
    network: nn.Module, bits: Mapping[str, int], *, computed_as_float: bool, weight_format: str
) -> None:
    """Put a layer with stored weights in place of each layer of fewer than 32 bits."""
    wanted = {network.get_submodule(path): layer_bits for path, layer_bits in bits.items() if layer_bits < 32}

    def weight(layer: nn.Conv2d | nn.Linear) -> nn.Module:
        layer_bits, weights = wanted[layer], layer.weight
        if layer_bits == 16:
            return HalfWeight(weights)
        if weight_format == "float8":
            return Float8Weight(weights)
        scale = arithmetic.weight_scale(weights, layer_bits)
        integers = arithmetic.quantize_weights(weights, scale, layer_bits)
        return IntegerWeight(integers, scale, bits=layer_bits, computed_as_float=computed_as_float)

    replace_modules_(network, nn.Conv2d, lambda conv: StoredConv2d(conv, weight(conv)) if conv in wanted else conv)
    replace_modules_(
        network, nn.Linear, lambda linear: StoredLinear(linear, weight(linear)) if linear in wanted else linear
    )
