"""Batches of images for tests of functions that take any task's tensors."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from nas_compress.pruning.importance_criteria import LossSamples
from nas_compress.tasks.batch import zeros
from nas_compress.tasks.classification import Classification


def example(shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """Two black images (C, H, W)."""
    return zeros(Classification.of_images(shape=shape, classes=2).signature.inputs, 2)


def labelled(batches: Iterable[tuple[Tensor, Tensor]], *, classes: int = 10) -> LossSamples:
    """Images and labels with the cross-entropy of their task."""
    pairs = tuple(({"input": images}, {"label": labels}) for images, labels in batches)
    channels, height, width = pairs[0][0]["input"].shape[1:]
    return LossSamples(task=Classification.of_images(shape=(channels, height, width), classes=classes), batches=pairs)
