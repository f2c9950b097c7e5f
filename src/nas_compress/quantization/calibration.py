"""Activation ranges from real samples: the smallest and largest value at each point."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nas_compress.errors import NonFiniteLossError, RequestError
from nas_compress.models.blocks import ActivationPoint
from nas_compress.quantization.arithmetic import activation_range
from nas_compress.quantization.modules import QuantizedActivation, RangeObserver
from nas_compress.quantization.replacing import replace_modules_

BATCH = 256
"""Samples that pass through the network at once."""


def quantize_activations_(network: nn.Module, calibration: Tensor, *, bits: int) -> None:
    """Put a quantizer at every activation point, with the range that uint8 (n, C, H, W) samples show."""
    if not any(isinstance(module, ActivationPoint) for module in network.modules()):
        raise RequestError(
            f"activation_bits={bits} needs a network with activation points, "
            f"but got {type(network).__name__} with none; use activation_bits=32"
        )
    replace_modules_(network, ActivationPoint, lambda _: RangeObserver())
    with torch.no_grad():
        for batch in torch.split(calibration, BATCH):
            network(batch)
    replace_modules_(network, RangeObserver, lambda observer: _quantizer(observer, bits))


def _quantizer(observer: RangeObserver, bits: int) -> QuantizedActivation:
    lowest, highest = float(observer.lowest), float(observer.highest)
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise NonFiniteLossError("activations must be finite to be quantized, but calibration met inf or nan")
    scale, zero_point = activation_range(lowest, highest, bits)
    return QuantizedActivation(scale, zero_point, bits=bits)
