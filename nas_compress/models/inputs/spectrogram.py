"""Raw sounds to normalised spectrograms, inside the network and its file."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.models.layers import ActivationPoint
from nas_compress.values.audio.log_mel import FLOOR, LogMel
from nas_compress.values.normalisation import Normalisation


@torch.library.custom_op("nas_compress::made_at_load", mutates_args=())
def made_at_load(sounds: Tensor, table: Tensor, edges: Tensor, window: int, step: float, factor: float) -> Tensor:
    """Return a copy of a table that a file makes again from few numbers when it is loaded.

    The Fourier kernels (frequencies, 1, window) of a Hann window times `factor`, if `edges` is empty. Otherwise
    triangles (bands, frequencies) between the edges in Hz, with `step` Hz from one frequency to the next.
    sounds: inputs of the network, unused; exporters take a result of constants alone for a constant.
    """
    return table.clone()


@made_at_load.register_fake
def _(sounds: Tensor, table: Tensor, edges: Tensor, window: int, step: float, factor: float) -> Tensor:
    return torch.empty_like(table)


class SpectrogramInput(nn.Module):
    """Sounds of 16 bits (N, samples) to normalised logarithmic mel spectrograms (N, bands, frames).

    normalisation: of each band. axis: place of a further dimension of size 1; None for none.
    rounded: False: no activation point, for layers that round their inputs themselves.
    """

    kernels: Tensor
    filters: Tensor
    edges: Tensor
    nothing: Tensor
    mean: Tensor
    factor: Tensor

    def __init__(
        self, settings: LogMel, normalisation: Normalisation, *, axis: int | None = None, rounded: bool = True
    ) -> None:
        super().__init__()
        self.settings, self.axis = settings, axis
        tables = {
            "kernels": torch.from_numpy(settings.kernels()).float().unsqueeze(1),
            "filters": torch.from_numpy(settings.filters()).float(),
            "edges": torch.from_numpy(settings.edges()),
            "nothing": torch.zeros(0),
            "mean": _of_bands(normalisation.mean),
            "factor": 1 / _of_bands(normalisation.std),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)
        self.point = ActivationPoint() if rounded else nn.Identity()

    def forward(self, sounds: Tensor) -> Tensor:
        """Return float32 values."""
        values = (self.spectrogram(sounds) - self.mean) * self.factor
        return cast(Tensor, self.point(values if self.axis is None else values.unsqueeze(self.axis)))

    def spectrogram(self, sounds: Tensor) -> Tensor:
        """Return the spectrograms before normalisation, (N, bands, frames)."""
        settings = self.settings
        numbers = settings.window, settings.step, settings.factor
        kernels = made_at_load(sounds, self.kernels, self.nothing, *numbers)
        filters = made_at_load(sounds, self.filters, self.edges, *numbers)
        parts = F.conv1d(sounds.float().unsqueeze(1), kernels, stride=settings.hop)
        squares = parts * parts
        power = squares[:, : settings.bins] + squares[:, settings.bins :]
        return torch.log(torch.matmul(filters, power) + FLOOR)


def _of_bands(values: float | tuple[float, ...]) -> Tensor:
    return torch.tensor(values if isinstance(values, tuple) else (values,), dtype=torch.float32).reshape(1, -1, 1)
