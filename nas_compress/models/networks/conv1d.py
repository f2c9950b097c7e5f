"""Convolutions over time for series (N, C, T): residual blocks, full or depthwise separable, with dilation."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.models.family import FreeLayers
from nas_compress.models.input_output_scaling import output_scale, raw_input
from nas_compress.models.inputs.spectrogram import SpectrogramInput
from nas_compress.models.layers import ConvUnit, Head, Residual, StagedNetwork, StagesOfBlocks, residual_layers
from nas_compress.values.architecture import Architecture
from nas_compress.values.family_settings import FamilySettings, SeriesSettings
from nas_compress.values.signature import Signature


class SeriesInput(nn.Module):
    """Raw series (N, C, T) to normalised planes (N, C, 1, T), for convolutions over two dimensions.

    The runtime and the quantizer have one kind of convolution; a kernel (1, k) over a plane of height 1 is the same.
    """

    def __init__(self, normalise: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise

    def forward(self, samples: Tensor) -> Tensor:
        """Map (N, C, T) to float32 (N, C, 1, T)."""
        return cast(Tensor, self.normalise(samples.unsqueeze(2)))


class Conv1d(StagesOfBlocks[SeriesSettings]):
    """Stages of residual blocks over time; each stage after the first halves the steps.

    A block has two convolutions of the kernel, as in the residual network for time series of Wang et al. 2016 (arXiv
    1611.06455), or, if depthwise, 1x1, depthwise and 1x1. Block b of a stage has the dilation
    `dilation_growth`^b (Bai et al. 2018, arXiv 1803.01271).
    """

    summary = "residual convolutions over time for series and spectrograms"
    source = "Wang et al. 2016, arXiv 1611.06455"
    base_widths = (32, 64, 128)
    base_depths = (1, 1, 1)
    settings = SeriesSettings

    def fits(self, signature: Signature) -> bool:
        """Return True for one series (N, C, T) of a fixed size, and one vector as output."""
        try:
            _ = signature.series_shape, signature.vector_size
        except RequestError:
            return False
        return True

    def reduction(self, settings: FamilySettings) -> int:
        """The stem's stride."""
        return self.own(settings).stem_stride

    def _layers(self, depths: tuple[int, ...], base_widths: tuple[int, ...], settings: SeriesSettings) -> FreeLayers:
        """The stem, the stream of each later stage, the inner width of each block."""
        return residual_layers(depths, base_widths, last=2 if settings.depthwise else 1)

    def build(self, architecture: Architecture) -> StagedNetwork:
        """A freshly initialised network."""
        settings, stream = self.own(architecture.settings), architecture.channels("stem.conv")
        channels, _ = architecture.signature.series_shape
        kernel, last = (1, settings.kernel_size), 2 if settings.depthwise else 1
        stem = ConvUnit(channels, stream, kernel=kernel, stride=(1, settings.stem_stride))
        stages = []
        for stage, depth in enumerate(architecture.depths):
            blocks: list[nn.Module] = []
            for block in range(depth):
                first = stage > 0 and block == 0
                outputs = architecture.channels(f"stages.{stage}.0.main.{last}.conv") if first else stream
                inner = architecture.channels(f"stages.{stage}.{block}.main.0.conv")
                stride, dilation = (1, 2 if first else 1), (1, settings.dilation_growth**block)
                if settings.depthwise:
                    main = nn.Sequential(
                        ConvUnit(stream, inner, kernel=1),
                        ConvUnit(inner, inner, kernel=kernel, stride=stride, dilation=dilation, groups=inner),
                        ConvUnit(inner, outputs, kernel=1, relu=False),
                    )
                else:
                    main = nn.Sequential(
                        ConvUnit(stream, inner, kernel=kernel, stride=stride, dilation=dilation),
                        ConvUnit(inner, outputs, kernel=kernel, dilation=dilation, relu=False),
                    )
                shortcut = ConvUnit(stream, outputs, kernel=1, stride=stride, relu=False) if first else nn.Identity()
                blocks.append(Residual(main, shortcut, relu=True))
                stream = outputs
            stages.append(nn.Sequential(*blocks))
        head = Head(stream, architecture.signature.vector_size, scale=output_scale(architecture))
        return StagedNetwork(
            _series_input(architecture),
            stem,
            stages,
            head,
            output=architecture.signature.output_names[0],
        )


def _series_input(architecture: Architecture) -> nn.Module:
    """Return the first module: raw series, or the spectrogram of raw sounds, to planes of height 1."""
    (spec,) = architecture.signature.inputs
    if spec.log_mel is not None:
        return SpectrogramInput(spec.log_mel, architecture.normalisation_of(spec.name), axis=2)
    return SeriesInput(raw_input(architecture, ndim=4))
