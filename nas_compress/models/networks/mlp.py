"""Multilayer perceptron for vectors: linear layers with ReLU, with or without residual connections."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.models.family import FreeLayers
from nas_compress.models.input_output_scaling import output_scale, raw_input
from nas_compress.models.layers import ActivationPoint, Residual, StagedNetwork, StagesOfBlocks
from nas_compress.values.architecture import Architecture
from nas_compress.values.family_settings import PerceptronSettings
from nas_compress.values.signature import Signature


class LinearUnit(nn.Module):
    """Linear layer, ReLU if `relu`, and an activation point."""

    def __init__(self, inputs: int, outputs: int, *, relu: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()
        self.point = ActivationPoint()

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs)."""
        return cast(Tensor, self.point(self.relu(self.linear(values))))


class FlatInput(nn.Module):
    """Raw samples of any shape, normalised, to vectors (N, numbers)."""

    def __init__(self, normalise: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise

    def forward(self, samples: Tensor) -> Tensor:
        """Map (N, ...) to float32 (N, numbers)."""
        return cast(Tensor, self.normalise(samples)).flatten(1)


class VectorHead(nn.Module):
    """The last linear layer. Its outputs stay float. scale: last module, see `models.scaling.output_scale`."""

    def __init__(self, inputs: int, outputs: int, *, scale: nn.Module) -> None:
        super().__init__()
        self.classifier, self.scale = nn.Linear(inputs, outputs), scale

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs)."""
        return cast(Tensor, self.scale(self.classifier(values)))


class Perceptron(StagesOfBlocks[PerceptronSettings]):
    """One stage of blocks after a first linear layer.

    A residual block adds two linear layers to its input (Gorishniy et al. 2021, arXiv 2106.11959, section 3.2, without
    normalisation); a plain block is one linear layer.
    """

    summary = "linear layers for vectors, with or without residual connections"
    source = "Gorishniy et al. 2021, arXiv 2106.11959"
    base_widths = (128,)
    base_depths = (2,)
    settings = PerceptronSettings

    def fits(self, signature: Signature) -> bool:
        """Return True for one input of a fixed size, of any rank, and one vector as output."""
        try:
            _ = signature.numbers_per_sample, signature.vector_size
        except RequestError:
            return False
        return True

    def _layers(
        self, depths: tuple[int, ...], base_widths: tuple[int, ...], settings: PerceptronSettings
    ) -> FreeLayers:
        """The first layer, and the inner or only layer of each block."""
        inner = "main.0.linear" if settings.residual else "linear"
        blocks = [(f"stages.0.{block}.{inner}", base_widths[0]) for block in range(depths[0])]
        return [("stem.linear", base_widths[0]), *blocks]

    def build(self, architecture: Architecture) -> StagedNetwork:
        """A freshly initialised network."""
        residual, stream = self.own(architecture.settings).residual, architecture.channels("stem.linear")
        stem, blocks = LinearUnit(architecture.signature.numbers_per_sample, stream), list[nn.Module]()
        for block in range(architecture.depths[0]):
            if residual:
                inner = architecture.channels(f"stages.0.{block}.main.0.linear")
                main = nn.Sequential(LinearUnit(stream, inner), LinearUnit(inner, stream, relu=False))
                blocks.append(Residual(main, nn.Identity(), relu=True))
            else:
                outputs = architecture.channels(f"stages.0.{block}.linear")
                blocks.append(LinearUnit(stream, outputs))
                stream = outputs
        head = VectorHead(stream, architecture.signature.vector_size, scale=output_scale(architecture))
        return StagedNetwork(
            FlatInput(raw_input(architecture)),
            stem,
            [nn.Sequential(*blocks)],
            head,
            output=architecture.signature.output_names[0],
        )
