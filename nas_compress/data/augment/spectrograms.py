"""Random masks on spectrograms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nas_compress.data.augment.transform_protocol import Transform, up_to, within
from nas_compress.errors import RequestError
from nas_compress.values.signature import TensorSpec


@dataclass(frozen=True, kw_only=True)
class SpecAugment(Transform):
    """Bands of frequencies and spans of time set to the mean, in spectrograms (N, F, T) or (N, C, F, T).

    Park et al. 2019, arXiv 1904.08779, section 2, without the time warp, the least effective part by its authors. A
    band has a height f, uniform from 0 to `frequency`, and begins at a row from 0 to F - f. A span has a length t,
    uniform from 0 to `time` and at most `time_share` of the whole, and begins at a column from 0 to T - t.

    frequency_masks, time_masks: number of bands and spans.
    """

    frequency: int = 0
    time: int = 0
    frequency_masks: int = 2
    time_masks: int = 2
    time_share: float = 1.0

    def __post_init__(self) -> None:
        if min(self.frequency, self.time) < 0 or max(self.frequency, self.time) == 0:
            got = f"frequency={self.frequency}, time={self.time}"
            raise RequestError(f"spec_augment must have a frequency or time above 0, but got {got}")
        if min(self.frequency_masks, self.time_masks) < 1 or not 0 < self.time_share <= 1:
            got = f"{self.frequency_masks}, {self.time_masks} and {self.time_share}"
            rule = "frequency_masks >= 1, time_masks >= 1 and 0 < time_share <= 1 must hold"
            raise RequestError(f"{rule}, but got {got}")

    @property
    def numbers(self) -> int:
        """Size and place of each mask."""
        return 2 * (self.frequency_masks + self.time_masks)

    def check(self, inputs: tuple[TensorSpec, ...]) -> None:
        """Require spectrograms with more rows than the highest band and more columns than the longest span."""
        for spec in inputs:
            rows, columns = spec.shape[-2:] if len(spec.shape) in (3, 4) else ("", "")
            if not (isinstance(rows, int) and isinstance(columns, int)):
                raise RequestError(
                    f"spec_augment needs spectrograms (N, F, T) or (N, C, F, T), but got {spec.name}: {spec.shape}"
                )
            self.require_smaller(rows, columns, spec.name)

    def require_smaller(self, rows: int, columns: int, place: str) -> None:
        """Raise RequestError unless every mask is smaller than a spectrogram. place: name of the input."""
        for name, largest, size in (("frequency", self.frequency, rows), ("time", self.time, columns)):
            if largest >= size:
                rule = f"spec_augment.{name} < {size} (of {place}) must hold"
                raise RequestError(f"{rule}, but got {largest}")

    def apply(self, values: Tensor, numbers: Tensor, mean: Tensor) -> Tensor:
        """Overwrite the bands and spans."""
        bands, spans = masks_along(self, numbers, *values.shape[-2:])
        masked = bands[:, :, None] | spans[:, None, :]
        return torch.where(masked if values.ndim == 3 else masked[:, None], mean, values)


def masks_along(masks: SpecAugment, numbers: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return True at the masked rows, (B, rows), and columns, (B, columns). numbers: (B, masks.numbers)."""
    own, other = numbers[:, : 2 * masks.frequency_masks], numbers[:, 2 * masks.frequency_masks :]
    longest = min(masks.time, int(masks.time_share * columns))
    return _masks(own, masks.frequency, rows), _masks(other, longest, columns)


def _masks(numbers: Tensor, largest: int, size: int) -> Tensor:
    """Return True (B, size) at the places of all masks along one axis."""
    masked = torch.zeros(len(numbers), size, dtype=torch.bool, device=numbers.device)
    for first in range(0, numbers.shape[1], 2):
        length = up_to(numbers[:, first], largest)
        masked |= within(up_to(numbers[:, first + 1], size - length), length, size)
    return masked
