"""Calibration of activation ranges: values observed at each activation point, and rules that choose a range."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas_compress.errors import NonFiniteLossError, RequestError
from nas_compress.models.layers import ActivationPoint
from nas_compress.quantization.arithmetic import activation_range, largest_activation
from nas_compress.quantization.modules import replace_modules_
from nas_compress.quantization.trainable_modules import LearnedStepActivation
from nas_compress.tasks.batch import Batch, count, fitting, split

BATCH = 256
"""Samples in one pass of the network."""

MakeQuantizer = Callable[[float, float], nn.Module]
"""From the lowest and highest value of a range to the module that rounds to it."""

Range = tuple[float, float]

OUTLIERS = 1e-4
"""Fraction of the values outside the range of `percentile`, at each end."""

SHRINKS = 80
"""Number of ranges that `mse` tries, from a fifth of the extent of the values to all of it."""


@dataclass(frozen=True, kw_only=True)
class RangeRule:
    """A rule for a range. choose: from values (n,), smallest and largest included, and bits to the range."""

    summary: str
    source: str
    choose: Callable[[Tensor, int], Range]


def min_max(values: Tensor, bits: int) -> Range:
    """Return the smallest and the largest value."""
    lowest, highest = torch.aminmax(values)
    return float(lowest), float(highest)


def percentile(values: Tensor, bits: int) -> Range:
    """Leave out 0.01 % of the values at each end."""
    ends = torch.quantile(values, torch.tensor([OUTLIERS, 1 - OUTLIERS]))
    return float(ends[0]), float(ends[1])


def mse(values: Tensor, bits: int) -> Range:
    """Shrink the range around 0 to the least squared error of rounding and clipping together."""
    lowest, highest = min_max(values, bits)
    shrinks = torch.linspace(0.2, 1.0, SHRINKS).tolist()
    errors = [_squared_error(values, (lowest * shrink, highest * shrink), bits) for shrink in shrinks]
    best = shrinks[errors.index(min(errors))]
    return lowest * best, highest * best


def _squared_error(values: Tensor, range_: Range, bits: int) -> float:
    scale, zero_point = activation_range(*range_, bits)
    rounded = (torch.round(values / scale) + zero_point).clamp(0, largest_activation(bits))
    return float((((rounded - zero_point) * scale - values) ** 2).mean())


RANGE_RULES: Mapping[str, RangeRule] = {
    "min_max": RangeRule(summary="all values", source="Jacob et al. 2018, arXiv 1712.05877", choose=min_max),
    "percentile": RangeRule(
        summary="all but the outermost 0.01 % at each end", source="Wu et al. 2020, arXiv 2004.09602", choose=percentile
    ),
    "mse": RangeRule(
        summary="the least squared error, for weights too",
        source="Sung et al. 2015, arXiv 1511.06488",
        choose=mse,
    ),
}


class RangeObserver(nn.Module):
    """Keep a sample of the values at an activation point, smallest and largest included.

    A tensor of more than KEPT values is cut into KEPT equal stretches, and one value of each is kept. The random
    positions are the same in every run.

    most: of the activation point.
    """

    KEPT = 16_384

    def __init__(self, most: float = math.inf) -> None:
        super().__init__()
        self.most = most
        self._seen: list[Tensor] = []
        self._random = torch.Generator().manual_seed(0)

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` unchanged."""
        flat = values.detach().reshape(-1)
        ends = torch.stack(torch.aminmax(flat))
        if flat.numel() > self.KEPT:
            flat = flat[self._positions(flat.numel()).to(flat.device)]
        self._seen += [flat, ends]
        return values

    @property
    def values(self) -> Tensor:
        """Values kept so far: float32 (n,) on the CPU; 0 alone if there were none."""
        return torch.cat(self._seen).float().cpu() if self._seen else torch.zeros(1)

    def _positions(self, count: int) -> Tensor:
        """Draw rising positions below `count`, int64 (KEPT,)."""
        # random, because a fixed step would hit the same pixels of some feature maps
        within = torch.rand(self.KEPT, generator=self._random, dtype=torch.float64)
        positions = ((torch.arange(self.KEPT, dtype=torch.float64) + within) * (count / self.KEPT)).long()
        return positions.clamp_(max=count - 1)


def calibrate_(network: nn.Module, calibration: Batch | None, *, bits: int, ranges: str, make: MakeQuantizer) -> None:
    """Replace every activation point by `make(lowest, highest)` of its range.

    network: in evaluation mode.
    calibration: a batch on the network's device.
    ranges: name of a rule in RANGE_RULES.
    """
    if calibration is None or count(calibration) == 0:
        raise RequestError(f"activation_bits={bits} needs at least one calibration sample, but got none")
    if not any(isinstance(module, ActivationPoint) for module in network.modules()):
        raise RequestError(
            f"activation_bits={bits} needs a network with activation points, "
            f"but got {type(network).__name__} with none; use activation_bits=32"
        )
    rule = RANGE_RULES[ranges]
    replace_modules_(network, ActivationPoint, lambda point: RangeObserver(point.most))
    with torch.no_grad():
        for batch in split(calibration, fitting(calibration, BATCH)):
            network(*batch.values())

    def made(observer: RangeObserver) -> nn.Module:
        quantizer = make(*rule.choose(_finite(observer.values), bits))
        if isinstance(quantizer, LearnedStepActivation):
            quantizer.most = observer.most
        return quantizer

    replace_modules_(network, RangeObserver, made)


def _finite(values: Tensor) -> Tensor:
    if not math.isfinite(float(values.abs().max())):
        raise NonFiniteLossError("activations must be finite to be quantized, but got inf or nan in calibration")
    return values
