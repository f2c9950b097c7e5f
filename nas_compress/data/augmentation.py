"""Augmentation as finitely many numbered views, so that a teacher's answers can be computed once for each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from nas_compress.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Views:
    """Shifts by up to `shift` pixels in both directions, each also mirrored left to right where `flip`.

    View 0 is the image itself. Pixels that move in are 0.

    >>> Views(shift=1, flip=True).count
    18
    """

    shift: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise RequestError(f"shift >= 0 must hold, but got shift={self.shift}")

    @property
    def count(self) -> int:
        """How many views an image has."""
        return self._shifts * (2 if self.flip else 1)

    def pad(self, inputs: torch.Tensor) -> torch.Tensor:
        """uint8 (N, C, H, W) to (N, C, H + 2 shift, W + 2 shift), framed with zeros; to be done once."""
        if self.shift == 0:
            return inputs
        return F.pad(inputs, (self.shift,) * 4)

    def apply(self, padded: torch.Tensor, view: int) -> torch.Tensor:
        """One view of a padded batch: (B, C, H + 2 shift, W + 2 shift) to (B, C, H, W).

        A view of the same memory where the images are not mirrored.
        """
        if not 0 <= view < self.count:
            raise RequestError(f"0 <= view < {self.count} must hold, but got view={view}")
        mirrored, shifted = divmod(view, self._shifts)
        top, left = self._corner(shifted)
        height, width = padded.shape[2] - 2 * self.shift, padded.shape[3] - 2 * self.shift
        window = padded[:, :, top : top + height, left : left + width]
        return torch.flip(window, dims=(3,)) if mirrored else window

    @property
    def _shifts(self) -> int:
        return (2 * self.shift + 1) ** 2

    def _corner(self, shifted: int) -> tuple[int, int]:
        """The window's upper left corner: counted from the middle on, so that 0 leaves the image in place."""
        return divmod((shifted + self._shifts // 2) % self._shifts, 2 * self.shift + 1)
