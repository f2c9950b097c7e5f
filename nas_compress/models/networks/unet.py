"""Small U-net: an encoder that halves the grid, and a decoder that joins its maps again, for a class per pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.models.family import Family, FreeLayers
from nas_compress.models.features import Observation, OneInputNetwork
from nas_compress.models.input_output_scaling import raw_input
from nas_compress.models.layers import ActivationPoint, ConvUnit, Residual, initialise_
from nas_compress.values.architecture import Architecture
from nas_compress.values.family_settings import ConvolutionalSettings, FamilySettings
from nas_compress.values.signature import Signature

Size: TypeAlias = tuple[int, int]
"""Height and width."""


class Enlarge(nn.Module):
    """Repeat each value `factor` times along both sides, and cut the result to `size`.

    The sizes are constants of the network, because exporters trace it.
    """

    def __init__(self, factor: int, *, size: Size) -> None:
        super().__init__()
        self.factor, self.size = factor, size

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, C, *size)."""
        if self.factor > 1:
            values = F.interpolate(values, scale_factor=float(self.factor), mode="nearest")
        height, width = self.size
        return values[:, :, :height, :width] if height % self.factor or width % self.factor else values


class Join(nn.Module):
    """Maps of a coarse grid, enlarged to a finer one of `size` and joined to its maps, to `outputs` channels."""

    def __init__(self, coarse: int, fine: int, outputs: int, *, size: Size) -> None:
        super().__init__()
        self.enlarge, self.point = Enlarge(2, size=size), ActivationPoint()
        self.unit = ConvUnit(coarse + fine, outputs)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Map (N, coarse, h, w) and (N, fine, H, W) to (N, outputs, H, W)."""
        return cast(Tensor, self.unit(self.point(torch.cat([self.enlarge(coarse), fine], dim=1))))


class PixelHead(nn.Module):
    """Logits of every pixel, at the grid of the input.

    The logits pass an activation point, because integer convolutions have rounded outputs only. stride: of the stem.
    size: of the image.
    """

    def __init__(self, inputs: int, classes: int, *, stride: int, size: Size) -> None:
        super().__init__()
        self.classifier, self.point = nn.Conv2d(inputs, classes, 1), ActivationPoint()
        self.enlarge = Enlarge(stride, size=size)

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, inputs, h, w) to (N, classes, *size)."""
        return cast(Tensor, self.enlarge(self.point(self.classifier(values))))


class UNetNetwork(OneInputNetwork):
    """Encoder stages, joins of each grid but the coarsest, and the head."""

    def __init__(
        self,
        raw_input: nn.Module,
        stages: list[nn.Sequential],
        joins: list[Join],
        head: PixelHead,
        *,
        output: str,
    ) -> None:
        super().__init__(output)
        self.raw_input = raw_input
        self.stages, self.joins, self.head = nn.ModuleList(stages), nn.ModuleList(joins), head
        initialise_(self)

    def observe(self, samples: Tensor, *, relations: bool = False) -> Observation:
        """Features `stage0`, ... of the encoder, then `join1`, `join0` of the decoder; there are no relations."""
        values = self.raw_input(samples)
        features = {}
        for number, stage in enumerate(self.stages):
            values = features[f"stage{number}"] = stage(values)
        for number in reversed(range(len(self.joins))):
            values = features[f"join{number}"] = self.joins[number](values, features[f"stage{number}"])
        return Observation(outputs=self.named(self.head(values)), features=features)


class UNet(Family[ConvolutionalSettings]):
    """Encoder stages of a convolution and residual blocks; each after the first halves the grid.

    The decoder has one convolution for each grid but the coarsest. In place of the paper's pooling and transposed
    convolutions, a stride halves and repeated values double the grid, because integer kernels have both.
    """

    summary = "encoder and decoder with joined maps, for a class per pixel"
    source = "Ronneberger et al. 2015, arXiv 1505.04597"
    base_widths = (16, 32, 64)
    base_depths = (1, 1, 1)
    settings = ConvolutionalSettings

    def fits(self, signature: Signature) -> bool:
        """Return True for one image, and one output (N, classes, H, W) of its height and width."""
        try:
            _ = signature.pixel_classes
        except RequestError:
            return False
        return True

    def reduction(self, settings: FamilySettings) -> int:
        """The stem's stride."""
        return self.own(settings).stem_stride

    def _layers(
        self, depths: tuple[int, ...], base_widths: tuple[int, ...], settings: ConvolutionalSettings
    ) -> FreeLayers:
        """The stream of each stage, the inner width of each residual block, the width of each join."""
        free = []
        for stage, (depth, base) in enumerate(zip(depths, base_widths, strict=True)):
            free.append((f"stages.{stage}.0.conv", base))
            free += [(f"stages.{stage}.{block}.main.0.conv", base) for block in range(1, depth)]
        for number in reversed(range(len(depths) - 1)):
            free.append((f"joins.{number}.unit.conv", base_widths[number]))
        return free

    def build(self, architecture: Architecture) -> UNetNetwork:
        """A freshly initialised network."""
        channels, height, width = architecture.signature.image_shape
        stem_stride = self.own(architecture.settings).stem_stride
        size, stages, streams, sizes = (height, width), [], [], []
        for stage, depth in enumerate(architecture.depths):
            stream = architecture.channels(f"stages.{stage}.0.conv")
            stride = 2 if stage else stem_stride
            size = (math.ceil(size[0] / stride), math.ceil(size[1] / stride))
            blocks: list[nn.Module] = [ConvUnit(channels, stream, stride=stride)]
            for block in range(1, depth):
                inner = architecture.channels(f"stages.{stage}.{block}.main.0.conv")
                main = nn.Sequential(ConvUnit(stream, inner), ConvUnit(inner, stream, relu=False))
                blocks.append(Residual(main, nn.Identity(), relu=True))
            stages.append(nn.Sequential(*blocks))
            streams.append(stream)
            sizes.append(size)
            channels = stream
        joins: list[Join] = []
        for number in reversed(range(len(streams) - 1)):
            outputs = architecture.channels(f"joins.{number}.unit.conv")
            joins.insert(0, Join(channels, streams[number], outputs, size=sizes[number]))
            channels = outputs
        return UNetNetwork(
            raw_input(architecture),
            stages,
            joins,
            PixelHead(channels, architecture.signature.pixel_classes, stride=stem_stride, size=(height, width)),
            output=architecture.signature.output_names[0],
        )

    def blocks(self, network: nn.Module) -> Sequence[nn.Sequential]:
        """The stages of the encoder."""
        if not isinstance(network, UNetNetwork):
            raise RequestError(f"a network of this family must be a UNetNetwork, but got {type(network).__name__}")
        return [stage for stage in network.stages if isinstance(stage, nn.Sequential)]

    def is_removable(self, block: nn.Module) -> bool:
        """Return True for a residual block."""
        return isinstance(block, Residual)
