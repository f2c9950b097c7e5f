"""Random transforms of images: shift, mirror, resized crop, and erased rectangle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.data.augment.transform_protocol import Transform, between, like, require_images, up_to, within
from nas_compress.errors import RequestError
from nas_compress.values.signature import TensorSpec

ATTEMPTS = 10
"""Draws of a rectangle; the first that fits into the image counts."""

CROP_ASPECT = (3 / 4, 4 / 3)
"""Width over height of a crop, relative to the image's pixels."""

ERASED_SHARE, ERASED_ASPECT = (0.02, 0.4), (0.3, 1 / 0.3)
"""Share of the image's area, and height over width, of an erased rectangle."""


@dataclass(frozen=True, kw_only=True)
class Shift(Transform):
    """Each image moved by -`pixels` to `pixels` in both directions; pixels that move in are 0.

    This is the padded crop of CIFAR recipes (He et al. 2016, arXiv 1512.03385, section 4.2, with `pixels` = 4).
    """

    pixels: int

    @property
    def numbers(self) -> int:
        """Two: a row and a column."""
        return 2

    def check(self, inputs: tuple[TensorSpec, ...]) -> None:
        """Require images with both sides longer than the shift."""
        require_images(inputs, "shift")
        shorter = min(side for spec in inputs for side in spec.sample_shape[1:] if isinstance(side, int))
        if not 0 <= self.pixels < shorter:
            raise RequestError(f"0 <= shift < {shorter} (the shorter side) must hold, but got shift={self.pixels}")

    def apply(self, values: Tensor, numbers: Tensor, mean: Tensor) -> Tensor:
        """Take a window on each image in a frame of zeros."""
        height, width = values.shape[2:]
        padded = F.pad(values, (self.pixels,) * 4)
        top, left = up_to(numbers, 2 * self.pixels).T
        rows = top[:, None] + torch.arange(height, device=values.device)
        columns = left[:, None] + torch.arange(width, device=values.device)
        samples = torch.arange(len(values), device=values.device)
        window = padded[samples[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        return window.permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True, kw_only=True)
class Flip(Transform):
    """Each image mirrored left to right with probability 1/2."""

    @property
    def numbers(self) -> int:
        """One."""
        return 1

    def check(self, inputs: tuple[TensorSpec, ...]) -> None:
        """Require images."""
        require_images(inputs, "flip")

    def apply(self, values: Tensor, numbers: Tensor, mean: Tensor) -> Tensor:
        """Mirror the images whose number is below 1/2."""
        return torch.where(numbers[:, :, None, None] < 0.5, values.flip(3), values)


@dataclass(frozen=True, kw_only=True)
class Crop(Transform):
    """A random part of each image, resized to the whole image by bilinear interpolation.

    Szegedy et al. 2015, arXiv 1409.4842, section 6 (the "inception crop"), as in torchvision's RandomResizedCrop: a
    share of the area drawn uniformly from `least_area` to 1, and an aspect ratio whose logarithm is drawn uniformly
    between those of 3/4 and 4/3. After ten rectangles that do not fit, the largest one in the middle with an allowed
    aspect is taken.
    """

    least_area: float

    def __post_init__(self) -> None:
        if not 0 < self.least_area < 1:
            raise RequestError(f"0 < crop < 1 (smallest share of the area) must hold, but got crop={self.least_area}")

    @property
    def numbers(self) -> int:
        """Area and aspect of each attempt, and the place."""
        return 2 * ATTEMPTS + 2

    def check(self, inputs: tuple[TensorSpec, ...]) -> None:
        """Require images."""
        require_images(inputs, "crop")

    def apply(self, values: Tensor, numbers: Tensor, mean: Tensor) -> Tensor:
        """Cut and resize each image."""
        height, width = values.shape[2:]
        rows, columns = self._size(numbers[:, :-2], height, width)
        top, left = up_to(numbers[:, -2], height - rows), up_to(numbers[:, -1], width - columns)
        # pixels of the crop's border are repeated, as if nothing were around it
        across = _sources(left, columns, width)[:, None, :].expand(-1, height, -1)
        down = _sources(top, rows, height)[:, :, None].expand(-1, -1, width)
        grid = torch.stack([across, down], dim=3)
        exact = values if values.dtype in (torch.float32, torch.float64) else values.float()
        resized = F.grid_sample(exact, grid.to(exact.dtype), padding_mode="border", align_corners=False)
        return like(resized, values.dtype)

    def _size(self, numbers: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Height and width of each crop, whole numbers (B,)."""
        area = height * width * between(numbers[:, 0::2], self.least_area, 1.0)
        aspect = between(numbers[:, 1::2], math.log(CROP_ASPECT[0]), math.log(CROP_ASPECT[1])).exp()
        rows, columns = (area / aspect).sqrt().round().long(), (area * aspect).sqrt().round().long()
        found, first = _first((rows >= 1) & (rows <= height) & (columns >= 1) & (columns <= width))
        whole = width / height
        most = (
            min(height, round(width / CROP_ASPECT[0])) if whole < CROP_ASPECT[0] else height,
            min(width, round(height * CROP_ASPECT[1])) if whole > CROP_ASPECT[1] else width,
        )
        return (
            torch.where(found, rows.gather(1, first)[:, 0], most[0]),
            torch.where(found, columns.gather(1, first)[:, 0], most[1]),
        )


@dataclass(frozen=True, kw_only=True)
class Erase(Transform):
    """With a probability, a rectangle of each image set to the mean of its channel.

    Zhong et al. 2020, arXiv 1708.04896, algorithm 1, with the mean value (RE-M): area 2 to 40 % of the image, aspect
    ratio 0.3 to 1/0.3, drawn until the rectangle fits, at most ten times. The logarithm of the aspect is drawn
    uniformly, so wide and tall rectangles are equally likely.
    """

    probability: float

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise RequestError(f"0 < erase <= 1 (a probability) must hold, but got erase={self.probability}")

    @property
    def numbers(self) -> int:
        """Area and aspect of each attempt, the place, and the decision."""
        return 2 * ATTEMPTS + 3

    def check(self, inputs: tuple[TensorSpec, ...]) -> None:
        """Require images."""
        require_images(inputs, "erase")

    def apply(self, values: Tensor, numbers: Tensor, mean: Tensor) -> Tensor:
        """Overwrite a rectangle of the chosen images."""
        height, width = values.shape[2:]
        area = height * width * between(numbers[:, 0 : 2 * ATTEMPTS : 2], *ERASED_SHARE)
        aspect = between(numbers[:, 1 : 2 * ATTEMPTS : 2], *map(math.log, ERASED_ASPECT)).exp()
        rows, columns = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
        found, first = _first((rows < height) & (columns < width))
        chosen = found & (numbers[:, -1] < self.probability)
        down, across = rows.gather(1, first)[:, 0] * chosen, columns.gather(1, first)[:, 0] * chosen
        top = up_to(numbers[:, -3], (height - down).clamp(min=0))
        left = up_to(numbers[:, -2], (width - across).clamp(min=0))
        erased = within(top, down, height)[:, None, :, None] & within(left, across, width)[:, None, None, :]
        return torch.where(erased, mean, values)


def _first(fits: Tensor) -> tuple[Tensor, Tensor]:
    """Return for (B, attempts) if one fits, (B,), and the place of the first, (B, 1)."""
    return fits.any(dim=1), fits.int().argmax(dim=1, keepdim=True)


def _sources(begin: Tensor, length: Tensor, size: int) -> Tensor:
    """Centres (B, size) of the source pixels of each resized pixel, in the units of `grid_sample`."""
    targets = torch.arange(size, device=begin.device) + 0.5
    inside = targets * (length[:, None] / size) - 0.5
    inside = torch.minimum(inside.clamp(min=0), (length - 1)[:, None].to(inside.dtype))
    return (2 * (begin[:, None] + inside) + 1) / size - 1
