"""Every shift and mirror image of a training sample as a numbered view."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_compress.data.augment.protocol import Augmentation, Views
from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Batch
from nas_compress.tasks.memory_map import MappedTensor
from nas_compress.values.signature import TensorSpec


@dataclass(frozen=True, kw_only=True)
class ShiftAndFlip(Augmentation):
    """Images shifted by up to `shift` pixels in both directions; with `flip` each also mirrored left to right.

    Pixels that move in are 0. All inputs must be images (N, C, H, W); they get the same view.

    >>> ShiftAndFlip(shift=1, flip=True).count
    18
    """

    shift: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise RequestError(f"shift >= 0 must hold, but got shift={self.shift}")

    @property
    def count(self) -> int:
        """Number of views: shifts times mirrors."""
        return self.shifts * (2 if self.flip else 1)

    @property
    def shifts(self) -> int:
        """Number of shifts."""
        return (2 * self.shift + 1) ** 2

    @property
    def identity(self) -> str:
        """Both settings."""
        return f"{self.shift} {self.flip}"

    def check(self, inputs: tuple[TensorSpec, ...]) -> None:
        """Raise RequestError unless every input is an image with both sides longer than the shift."""
        for spec in inputs:
            sides = spec.sample_shape[1:]
            if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
                raise RequestError(f"shift and flip need images (N, C, H, W), but got {spec.name}: {spec.shape}")
            shorter = min(side for side in sides if isinstance(side, int))
            if self.shift >= shorter:
                rule = f"shift < {shorter} (the shorter side) must hold"
                raise RequestError(f"{rule}, but got shift={self.shift}")

    def over(self, inputs: Batch) -> Views:
        """Frame the images with zeros once; each shift is a window on them. Memory maps are framed by batch."""
        if self.shift == 0:
            return _Windows(padded=inputs, augmentation=self)
        padded = {
            name: images if isinstance(images, MappedTensor) else F.pad(images, (self.shift,) * 4)
            for name, images in inputs.items()
        }
        return _Windows(padded=padded, augmentation=self)

    def corner(self, shifted: int) -> tuple[int, int]:
        """Upper left corner of a window; counted from the middle, because view 0 must leave the image in place."""
        return divmod((shifted + self.shifts // 2) % self.shifts, 2 * self.shift + 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Windows(Views):
    padded: Batch
    augmentation: ShiftAndFlip

    def batch(self, index: Tensor, view: int) -> Batch:
        """Return windows of the framed images at `index`; all of them have the same place."""
        return {name: self._window(self._framed(images, index), view) for name, images in self.padded.items()}

    def _framed(self, images: Tensor, index: Tensor) -> Tensor:
        rows = images.index_select(0, index)
        return F.pad(rows, (self.augmentation.shift,) * 4) if isinstance(images, MappedTensor) else rows

    def _window(self, padded: Tensor, view: int) -> Tensor:
        """One view (B, C, H, W) of framed images (B, C, H + 2 shift, W + 2 shift): the same memory, or mirrored."""
        augmentation = self.augmentation
        if not 0 <= view < augmentation.count:
            raise RequestError(f"0 <= view < {augmentation.count} must hold, but got view={view}")
        mirrored, shifted = divmod(view, augmentation.shifts)
        top, left = augmentation.corner(shifted)
        height, width = padded.shape[2] - 2 * augmentation.shift, padded.shape[3] - 2 * augmentation.shift
        window = padded[:, :, top : top + height, left : left + width]
        return torch.flip(window, dims=(3,)) if mirrored else window
