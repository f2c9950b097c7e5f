"""Activation ranges from real samples: what passes each point, and the range that a rule makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nas_compress.errors import NonFiniteLossError, RequestError
from nas_compress.models.layers import ActivationPoint
from nas_compress.quantization.modules import RangeObserver
from nas_compress.quantization.ranges import RANGE_RULES
from nas_compress.quantization.replacing import replace_modules_

BATCH = 256
"""Samples that pass through the network at once."""

MakeQuantizer = Callable[[float, float], nn.Module]
"""(lowest, highest value to be covered) to the module that rounds there."""


def calibrate_(network: nn.Module, calibration: Tensor | None, *, bits: int, ranges: str, make: MakeQuantizer) -> None:
    """Put `make(lowest, highest)` at every activation point; `ranges` names a rule of RANGE_RULES.

    calibration: uint8 (n, C, H, W) on the network's device, which must be in evaluation mode.
    """
    if calibration is None or len(calibration) == 0:
        raise RequestError(f"activation_bits={bits} needs at least one calibration sample, but got none")
    if not any(isinstance(module, ActivationPoint) for module in network.modules()):
        raise RequestError(
            f"activation_bits={bits} needs a network with activation points, "
            f"but got {type(network).__name__} with none; use activation_bits=32"
        )
    rule = RANGE_RULES[ranges]
    replace_modules_(network, ActivationPoint, lambda _: RangeObserver())
    with torch.no_grad():
        for batch in torch.split(calibration, BATCH):
            network(batch)
    replace_modules_(network, RangeObserver, lambda observer: make(*rule.choose(_finite(observer.values), bits)))


def _finite(values: Tensor) -> Tensor:
    if not math.isfinite(float(values.abs().max())):
        raise NonFiniteLossError("activations must be finite to be quantized, but calibration met inf or nan")
    return values
