"""Inverted residuals with depthwise separable convolutions (Sandler et al. 2018, arXiv 1801.04381).

ReLU instead of ReLU6: the integer runtime absorbs it at any scale.
"""

from __future__ import annotations

from torch import nn

from nas_compress.models.family import FreeLayers
from nas_compress.models.input_output_scaling import image_input, output_scale
from nas_compress.models.layers import ConvUnit, Head, Residual, StagedFamily, StagedNetwork
from nas_compress.values.architecture import Architecture
from nas_compress.values.family_settings import ConvolutionalSettings

EXPAND_RATIO = 3
"""Inner width of a block, as a multiple of its input."""


class MobileNet(StagedFamily):
    """Stages of inverted residuals."""

    summary = "inverted residuals, depthwise separable convolutions"
    source = "Sandler et al. 2018, arXiv 1801.04381"
    base_widths = (16, 32, 64)
    base_depths = (1, 1, 1)

    def _layers(
        self, depths: tuple[int, ...], base_widths: tuple[int, ...], settings: ConvolutionalSettings
    ) -> FreeLayers:
        """The stem, the stream of each stage, the expanded width of each block."""
        free = [("stem.conv", base_widths[0])]
        inputs = base_widths[0]
        for stage, (depth, base) in enumerate(zip(depths, base_widths, strict=True)):
            for block in range(depth):
                prefix = f"stages.{stage}.{block}" + (".main" if block else "")
                free.append((f"{prefix}.0.conv", EXPAND_RATIO * inputs))
                if block == 0:
                    free.append((f"{prefix}.2.conv", base))
                inputs = base
        return free

    def build(self, architecture: Architecture) -> StagedNetwork:
        """A freshly initialised network; each stage after the first halves height and width.

        The first block of a stage changes the stream's width and has no shortcut.
        """
        stream = architecture.channels("stem.conv")
        stem = self.stem(architecture)
        stages = []
        for stage, depth in enumerate(architecture.depths):
            outputs = architecture.channels(f"stages.{stage}.0.2.conv")
            expanded = architecture.channels(f"stages.{stage}.0.0.conv")
            blocks: list[nn.Module] = [_inverted(stream, expanded, outputs, stride=2 if stage else 1)]
            for block in range(1, depth):
                expanded = architecture.channels(f"stages.{stage}.{block}.main.0.conv")
                main = _inverted(outputs, expanded, outputs, stride=1)
                blocks.append(Residual(main, nn.Identity(), relu=False))
            stages.append(nn.Sequential(*blocks))
            stream = outputs
        head = Head(stream, architecture.signature.vector_size, scale=output_scale(architecture))
        return StagedNetwork(
            image_input(architecture), stem, stages, head, output=architecture.signature.output_names[0]
        )


def _inverted(inputs: int, expanded: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        ConvUnit(inputs, expanded, kernel=1),
        ConvUnit(expanded, expanded, stride=stride, groups=expanded),
        ConvUnit(expanded, outputs, kernel=1, relu=False),
    )
