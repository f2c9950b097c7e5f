"""Networks and samples shared by the benchmarks."""

from __future__ import annotations

import torch

from nas_compress.data.dataset import Split
from nas_compress.models.families import FAMILIES
from nas_compress.values.architecture import Architecture, Width


def architecture(
    family: str, input_shape: tuple[int, int, int], *, depths: tuple[int, ...], multiplier: float
) -> Architecture:
    """Return a network of a family for ten classes, base widths scaled and rounded to steps of 16."""
    layers = FAMILIES[family].layers(depths, FAMILIES[family].base_widths)
    widths = tuple(
        Width(layer=layer, asked=base * multiplier, channels=max(16, round(base * multiplier / 16) * 16))
        for layer, base in layers
    )
    return Architecture.of_images(
        input_shape, classes=10, mean=128, std=74.0, family=family, depths=depths, widths=widths
    )


def random_samples(count: int, input_shape: tuple[int, int, int]) -> Split:
    """Return samples of random raw values with random labels of ten classes."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (count, *input_shape), dtype=torch.uint8, generator=generator)
    return Split(
        name="train", inputs={"input": inputs}, targets={"label": torch.randint(0, 10, (count,), generator=generator)}
    )
