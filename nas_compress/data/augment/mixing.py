"""Mixtures of two samples with soft targets: mixup and cutmix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nas_compress.data.augment.transform_protocol import like, require_images
from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Batch
from nas_compress.values.signature import TensorSpec

MIXABLE = ("uint8", "int8", "int16", "float16", "float32", "float64")
"""Types of inputs whose numbers are amounts; wider integers may be the numbers of words."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Draws for some samples: the other sample of each pair and their shares.

    partner: int64 (B,), places in the split. share: float32 (B,), of the sample itself. cut: bool (B,), True if a
    rectangle is pasted. centre: float32 (B, 2), relative row and column of the rectangle's centre.
    """

    partner: Tensor
    share: Tensor
    cut: Tensor
    centre: Tensor

    def rows(self, index: Tensor) -> Pairs:
        """Return the draws of the samples at an index."""
        return Pairs(
            partner=self.partner[index], share=self.share[index], cut=self.cut[index], centre=self.centre[index]
        )

    def to(self, device: torch.device) -> Pairs:
        """Return the draws on a device."""
        return Pairs(
            partner=self.partner.to(device),
            share=self.share.to(device),
            cut=self.cut.to(device),
            centre=self.centre.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Each sample mixed with another one of the training split.

    mixup: alpha of `x = l x_i + (1 - l) x_j`, `y = l y_i + (1 - l) y_j` with `l ~ Beta(alpha, alpha)`
    (Zhang et al. 2018, arXiv 1710.09412, equation 1). cutmix: alpha of `x = M x_A + (1 - M) x_B` with a rectangle M
    of the share 1 - l of the image, and targets by the area that remains inside it (Yun et al. 2019, arXiv 1905.04899,
    equations 1 and 2). With both, each pair has one of them with probability 1/2, as in timm.
    """

    mixup: float | None = None
    cutmix: float | None = None

    def __post_init__(self) -> None:
        for name, alpha in (("mixup", self.mixup), ("cutmix", self.cutmix)):
            if alpha is not None and not alpha > 0:
                raise RequestError(f"{name} > 0 (alpha of the Beta distribution) must hold, but got {name}={alpha}")
        if self.mixup is None and self.cutmix is None:
            raise RequestError("mixup or cutmix must be given, but got neither")

    @property
    def names(self) -> str:
        """The keys that are set."""
        return " and ".join(name for name in ("mixup", "cutmix") if getattr(self, name) is not None)

    def check(self, inputs: tuple[TensorSpec, ...]) -> None:
        """Require inputs of amounts, and one image for cutmix."""
        for spec in inputs:
            if spec.dtype not in MIXABLE:
                rule = f"{self.names} needs inputs of type {', '.join(MIXABLE)}"
                raise RequestError(f"{rule}, but got {spec.name}: {spec.dtype}; return amounts as float32")
        if self.cutmix is not None:
            require_images(inputs, "cutmix")
            if len(inputs) > 1:
                raise RequestError(f"cutmix needs one input, but got {len(inputs)}; use mixup")

    def draw(self, samples: int, random: np.random.Generator) -> Pairs:
        """Draw a partner, a share and a rectangle for each sample of a split."""
        partner = random.permutation(samples)
        cut = random.random(samples) < 0.5 if None not in (self.mixup, self.cutmix) else self.cutmix is not None
        cut = np.broadcast_to(cut, samples)
        share = np.zeros(samples)
        for chosen, alpha in ((~cut, self.mixup), (cut, self.cutmix)):
            if alpha is not None:
                share[chosen] = random.beta(alpha, alpha, samples)[chosen]
        return Pairs(
            partner=torch.from_numpy(partner),
            share=torch.from_numpy(share.astype(np.float32)),
            cut=torch.from_numpy(cut.copy()),
            centre=torch.from_numpy(random.random((samples, 2), dtype=np.float32)),
        )

    def inputs(self, own: Batch, other: Batch, pairs: Pairs) -> dict[str, Tensor]:
        """Return the mixed inputs of samples and their partners."""
        return {name: self._mixed(values, other[name], pairs) for name, values in own.items()}

    def shares(self, inputs: Batch, pairs: Pairs) -> Tensor:
        """Return the share of each sample in its targets, float32 (B,). inputs: of any samples, for their shape."""
        if self.cutmix is None:
            return pairs.share
        height, width = next(iter(inputs.values())).shape[2:]
        pasted = _rectangles(pairs, height, width).flatten(1).float().mean(dim=1)
        return torch.where(pairs.cut, 1 - pasted, pairs.share)

    def _mixed(self, own: Tensor, other: Tensor, pairs: Pairs) -> Tensor:
        share: Tensor = pairs.share.reshape(-1, *(1,) * (own.ndim - 1))
        mixed = like(share * own + (1 - share) * other, own.dtype) if self.mixup is not None else own
        if self.cutmix is None:
            return mixed
        height, width = own.shape[2:]
        pasted = torch.where(_rectangles(pairs, height, width)[:, None], other, own)
        return torch.where(pairs.cut[:, None, None, None], pasted, mixed)


def _rectangles(pairs: Pairs, height: int, width: int) -> Tensor:
    """Return True (B, H, W) inside each rectangle; parts outside the image are cut off, as in the authors' code."""
    ratio = (1 - pairs.share.double()).sqrt()
    inside = []
    for size, centre in zip((height, width), pairs.centre.double().T, strict=True):
        half, middle = (size * ratio).long() // 2, (centre * size).long()
        places = torch.arange(size, device=centre.device)
        inside.append((places >= (middle - half)[:, None]) & (places < (middle + half)[:, None]))
    down, across = inside
    both: Tensor = down[:, :, None] & across[:, None, :]
    return both
