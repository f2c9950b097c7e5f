"""Layers shared by families. Each tensor between layers passes an `ActivationPoint`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.models.family import Family, FreeLayers, Settings
from nas_compress.models.features import Observation, OneInputNetwork
from nas_compress.values.architecture import Architecture
from nas_compress.values.family_settings import ConvolutionalSettings, FamilySettings

EMBEDDING_SCALE = 0.1
"""Standard deviation of fresh embeddings. With 1, as in torch, a CNN of 6,920 sentences is 8 points worse."""


class ActivationPoint(nn.Module):
    """Marks a tensor between layers; quantization puts an activation quantizer in its place. Does nothing itself.

    most: largest possible value, if the layer before clips there.
    rows: rows of the first dimension that each sample has.
    multiplied: False: no product reads the tensor, so that a file which finds ranges by itself needs none here.
    """

    def __init__(self, most: float = math.inf, *, rows: int = 1, multiplied: bool = True) -> None:
        super().__init__()
        self.most, self.rows, self.multiplied = most, rows, multiplied

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` unchanged."""
        return values


class RawInput(nn.Module):
    """Raw uint8 samples (N, C, H, W) to normalised floats: `(x - mean) / std`, one integer mean and one std."""

    def __init__(self, mean: int, std: float) -> None:
        super().__init__()
        self.mean, self.std = int(mean), float(std)

    def forward(self, samples: Tensor) -> Tensor:
        """Return float32 values of the samples' shape."""
        return (samples.float() - float(self.mean)) * (1.0 / self.std)


class ConvUnit(nn.Module):
    """Convolution, batch normalisation, ReLU if `relu`, and an activation point."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2 * dilation[0], sides[1] // 2 * dilation[1])
        self.conv = nn.Conv2d(
            inputs, outputs, sides, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()
        self.point = ActivationPoint()

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return cast(Tensor, self.point(self.relu(self.norm(self.conv(values)))))


class Residual(nn.Module):
    """A main path added to its input (or to a shortcut of it), ReLU if `relu`, and an activation point."""

    def __init__(self, main: nn.Module, shortcut: nn.Module, *, relu: bool) -> None:
        super().__init__()
        self.main, self.shortcut = main, shortcut
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()
        self.point = ActivationPoint()

    def forward(self, values: Tensor) -> Tensor:
        """Add both paths; their shapes must agree."""
        return cast(Tensor, self.point(self.relu(self.main(values) + self.shortcut(values))))


class Head(nn.Module):
    """Global average pool, an activation point, and the classifier. Its outputs stay float.

    scale: last module, see `models.scaling.output_scale`; none for logits.
    """

    def __init__(self, inputs: int, outputs: int, *, scale: nn.Module | None = None) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.point = ActivationPoint()
        self.classifier, self.scale = nn.Linear(inputs, outputs), scale or nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs)."""
        return cast(Tensor, self.scale(self.classifier(self.point(self.pool(values)).flatten(1))))


class StagedNetwork(OneInputNetwork):
    """A network of raw input, stem, stages of blocks and head.

    output: name of the output.
    """

    def __init__(
        self, raw_input: nn.Module, stem: nn.Module, stages: list[nn.Sequential], head: nn.Module, *, output: str
    ) -> None:
        super().__init__(output)
        self.raw_input, self.stem = raw_input, stem
        self.stages, self.head = nn.ModuleList(stages), head
        initialise_(self)

    def observe(self, samples: Tensor, *, relations: bool = False) -> Observation:
        """Features `stem`, `stage0`, `stage1`, ...; there are no relations."""
        values = self.stem(self.raw_input(samples))
        features = {"stem": values}
        for number, stage in enumerate(self.stages):
            values = stage(values)
            features[f"stage{number}"] = values
        return Observation(outputs=self.named(self.head(values)), features=features)


class StagesOfBlocks(Family[Settings]):
    """A family of `StagedNetwork`: subclasses give its free layers and build it."""

    def blocks(self, network: nn.Module) -> Sequence[nn.Sequential]:
        """The stages."""
        if not isinstance(network, StagedNetwork):
            raise RequestError(f"a network of this family must be a StagedNetwork, but got {type(network).__name__}")
        return [stage for stage in network.stages if isinstance(stage, nn.Sequential)]

    def is_removable(self, block: nn.Module) -> bool:
        """Return True if its shortcut is the identity."""
        return isinstance(block, Residual) and isinstance(block.shortcut, nn.Identity)


class StagedFamily(StagesOfBlocks[ConvolutionalSettings]):
    """A family of convolutions over images."""

    settings = ConvolutionalSettings

    def reduction(self, settings: FamilySettings) -> int:
        """The stem's stride."""
        return self.own(settings).stem_stride

    def stem(self, architecture: Architecture) -> ConvUnit:
        """The first layer of a network."""
        inputs, _, _ = architecture.signature.image_shape
        stride = self.own(architecture.settings).stem_stride
        return ConvUnit(inputs, architecture.channels("stem.conv"), stride=stride)


def residual_layers(depths: Sequence[int], base_widths: Sequence[int], *, last: int) -> FreeLayers:
    """Free layers of stages of residual blocks: the stem, each block's inner width, the stream of each later stage.

    Stage 0 adds to the output of the stem, so it has no stream width of its own. last: place of a block's last layer.
    """
    free = [("stem.conv", base_widths[0])]
    for stage, (depth, base) in enumerate(zip(depths, base_widths, strict=True)):
        for block in range(depth):
            free.append((f"stages.{stage}.{block}.main.0.conv", base))
            if stage > 0 and block == 0:
                free.append((f"stages.{stage}.0.main.{last}.conv", base))
    return free


def initialise_(network: nn.Module) -> None:
    """Give every layer fresh weights in place: convolutions as in He et al. 2015 (arXiv 1502.01852), biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            module.reset_parameters()
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=EMBEDDING_SCALE)
            if module.padding_idx is not None:
                nn.init.zeros_(module.weight.data[module.padding_idx])
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
