"""CIFAR-style residual network of basic blocks (He et al. 2016, arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

from torch import nn

from nas_compress.models.family import FreeLayers
from nas_compress.models.input_output_scaling import image_input, output_scale
from nas_compress.models.layers import ConvUnit, Head, Residual, StagedFamily, StagedNetwork, residual_layers
from nas_compress.values.architecture import Architecture
from nas_compress.values.family_settings import ConvolutionalSettings


class ResNet(StagedFamily):
    """Stages of basic blocks, two 3x3 convolutions each."""

    summary = "CIFAR-style basic blocks"
    source = "He et al. 2016, arXiv 1512.03385"
    base_widths = (32, 64, 128)
    base_depths = (1, 1, 1)

    def _layers(
        self, depths: tuple[int, ...], base_widths: tuple[int, ...], settings: ConvolutionalSettings
    ) -> FreeLayers:
        """The stem, the stream of each stage, the inner width of each block."""
        return residual_layers(depths, base_widths, last=1)

    def build(self, architecture: Architecture) -> StagedNetwork:
        """A freshly initialised network; each stage after the first halves height and width."""
        stream = architecture.channels("stem.conv")
        stem = self.stem(architecture)
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
        head = Head(stream, architecture.signature.vector_size, scale=output_scale(architecture))
        return StagedNetwork(
            image_input(architecture), stem, stages, head, output=architecture.signature.output_names[0]
        )
