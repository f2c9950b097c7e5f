"""CIFAR-style residual network of basic blocks (He et al. 2016, arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

from torch import nn

from nas_compress.models.layers import ConvUnit, Head, RawInput, Residual, StagedNetwork
from nas_compress.values.architecture import Architecture


def layers(depths: tuple[int, ...], base_widths: tuple[int, ...]) -> list[tuple[str, int]]:
    """Free widths as (layer path, base channels): the stem, each stage's stream, each block's inner width.

    Stage 0 adds onto the stem's output, so it has no stream width of its own.
    """
    free = [("stem.conv", base_widths[0])]
    for stage, (depth, base) in enumerate(zip(depths, base_widths, strict=True)):
        for block in range(depth):
            free.append((f"stages.{stage}.{block}.main.0.conv", base))
            if stage > 0 and block == 0:
                free.append((f"stages.{stage}.0.main.1.conv", base))
    return free


def build(architecture: Architecture) -> StagedNetwork:
    """A freshly initialised network; each stage after the first halves height and width."""
    stream = architecture.channels("stem.conv")
    stem = ConvUnit(architecture.input_shape[0], stream, stride=architecture.stem_stride)
    stages = []
    for stage, depth in enumerate(architecture.depths):
        blocks: list[nn.Module] = []
        for block in range(depth):
            first = stage > 0 and block == 0
            outputs = architecture.channels(f"stages.{stage}.0.main.1.conv") if first else stream
            inner = architecture.channels(f"stages.{stage}.{block}.main.0.conv")
            stride = 2 if first else 1
            main = nn.Sequential(ConvUnit(stream, inner, stride=stride), ConvUnit(inner, outputs, relu=False))
            shortcut = ConvUnit(stream, outputs, kernel=1, stride=stride, relu=False) if first else nn.Identity()
            blocks.append(Residual(main, shortcut, relu=True))
            stream = outputs
        stages.append(nn.Sequential(*blocks))
    raw_input = RawInput(architecture.mean, architecture.std)
    return StagedNetwork(raw_input, stem, stages, Head(stream, architecture.classes))
