"""One function from a float network to the deployable one of the asked bit-widths."""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, nn

from nas_compress.candidate import BITS
from nas_compress.errors import RequestError
from nas_compress.models.blocks import RawInput
from nas_compress.quantization.calibration import quantize_activations_
from nas_compress.quantization.folding import fold_batch_norm_
from nas_compress.quantization.modules import IntegerConv2d, IntegerLinear, QuantizedInput
from nas_compress.quantization.replacing import replace_modules_


def quantize(model: nn.Module, *, weight_bits: int, activation_bits: int, calibration: Tensor | None) -> nn.Module:
    """A new module for evaluation on the CPU with those bit-widths; `model` stays as it is.

    (32, 32) only folds batch normalisation. (8, 32) stores weights as integers. (8, 8) computes in integers:
    it needs a network with activation points and `calibration`, real training samples as uint8 (n, C, H, W).
    Post-training quantization by ranges (Jacob et al. 2018, arXiv 1712.05877).

    Raises RequestError for other bit-widths or missing samples, NonFiniteLossError where an activation is not
    finite.
    """
    _require_bits(weight_bits, activation_bits)
    network = deepcopy(model).cpu().eval().requires_grad_(False)
    fold_batch_norm_(network)
    if activation_bits < 32:
        quantize_activations_(network, _samples(calibration), bits=activation_bits)
        replace_modules_(network, RawInput, lambda raw: QuantizedInput(raw.mean, raw.std))
    if weight_bits < 32:
        _quantize_weights_(network, bits=weight_bits, computed_as_float=activation_bits == 32)
    return network.eval()


def _require_bits(weight_bits: int, activation_bits: int) -> None:
    if weight_bits not in BITS or activation_bits not in BITS or weight_bits > activation_bits:
        raise RequestError(
            f"bits of {' or '.join(map(str, BITS))} and weight_bits <= activation_bits must hold, "
            f"but got weight_bits={weight_bits}, activation_bits={activation_bits}"
        )


def _samples(calibration: Tensor | None) -> Tensor:
    if calibration is None or len(calibration) == 0:
        raise RequestError("activation_bits=8 needs at least one calibration sample, but got none")
    return calibration.cpu()


def _quantize_weights_(network: nn.Module, *, bits: int, computed_as_float: bool) -> None:
    def conv2d(conv: nn.Conv2d) -> nn.Module:
        # Other paddings are an operation of their own, which the float layer does best itself.
        if conv.padding_mode != "zeros":
            return conv
        return IntegerConv2d(conv, bits=bits, computed_as_float=computed_as_float)

    def linear(layer: nn.Linear) -> nn.Module:
        return IntegerLinear(layer, bits=bits, computed_as_float=computed_as_float)

    replace_modules_(network, nn.Conv2d, conv2d)
    replace_modules_(network, nn.Linear, linear)
