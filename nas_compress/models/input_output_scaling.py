"""Normalisation of raw inputs, and the scale of outputs, inside the network and its file."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.models.inputs.spectrogram import SpectrogramInput
from nas_compress.models.layers import ActivationPoint, RawInput
from nas_compress.tasks.preparation import preparation
from nas_compress.values.architecture import Architecture
from nas_compress.values.normalisation import Normalisation


class StandardisedInput(nn.Module):
    """Raw numbers of any type to normalised floats, `(x - mean) / std`, and an activation point.

    mean, std: one number, or one per entry of dimension 1. ndim: dimensions of the values with the batch.
    rounded: False: no activation point, for layers that round their inputs themselves.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, normalisation: Normalisation, *, ndim: int, rounded: bool = True) -> None:
        super().__init__()
        self.register_buffer("mean", _along_channels(normalisation.mean, ndim), persistent=False)
        self.register_buffer("factor", 1 / _along_channels(normalisation.std, ndim), persistent=False)
        self.point = ActivationPoint() if rounded else nn.Identity()

    def forward(self, samples: Tensor) -> Tensor:
        """Return float32 values of the samples' shape."""
        return cast(Tensor, self.point((samples.float() - self.mean) * self.factor))


class PreparedInput(nn.Sequential):
    """The user's own module and the first one of the network. The user's is as in evaluation, in training too."""

    def train(self, mode: bool = True) -> PreparedInput:
        """Change the mode of the network's own module only."""
        super().train(mode)
        self[0].eval()
        return self


class OutputScale(nn.Module):
    """Standardised outputs (N, K) to the units of the targets: `y * std + mean`."""

    mean: Tensor
    std: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        self.register_buffer("mean", _along_channels(normalisation.mean, 2), persistent=False)
        self.register_buffer("std", _along_channels(normalisation.std, 2), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return float32 values of the same shape."""
        return values.float() * self.std + self.mean


def raw_input(architecture: Architecture, *, ndim: int | None = None, rounded: bool = True) -> nn.Module:
    """Return the first module of a network of one input.

    Bytes with one mean and one deviation get a `RawInput`, which integer kernels read directly.
    Sounds become spectrograms (N, bands, frames).
    ndim: dimensions of the values with the batch, if the network reshapes its input; by default those of the signature.
    rounded: see `StandardisedInput`.
    """
    (spec,) = architecture.signature.inputs
    values = architecture.normalisation_of(spec.name)
    if spec.log_mel is not None:
        return SpectrogramInput(spec.log_mel, values, rounded=rounded)
    of_bytes = spec.dtype == "uint8" and not values.prepare  # a module of the user returns floats
    if of_bytes and not isinstance(values.mean, tuple) and not isinstance(values.std, tuple):
        return RawInput(int(values.mean), values.std)
    return StandardisedInput(values, ndim=len(spec.shape) if ndim is None else ndim, rounded=rounded)


def image_input(architecture: Architecture) -> nn.Module:
    """Return the first module of a network of images (N, C, H, W); sounds become images of one channel."""
    (spec,) = architecture.signature.inputs
    if spec.log_mel is not None:
        return SpectrogramInput(spec.log_mel, architecture.normalisation_of(spec.name), axis=1)
    return raw_input(architecture)


def with_preparation(network: nn.Module, architecture: Architecture) -> None:
    """Put the user's own module, if the architecture names one, before the first module of a network of one input.

    RequestError if the network reads no numbers.
    """
    name = architecture.normalisation_of(architecture.signature.inputs[0].name).prepare
    if not name:
        return
    first = getattr(network, "raw_input", None)
    if not isinstance(first, nn.Module):
        raise RequestError(f"preprocess needs a family of images, series or tables, but got {architecture.family!r}")
    device = next(network.parameters()).device
    network.raw_input = PreparedInput(preparation(name).to(device), first)
    network.raw_input.train(first.training)


def output_scale(architecture: Architecture) -> nn.Module:
    """Return the last module of a network: the units of the targets of its outputs, or nothing for logits."""
    known, outputs = dict(architecture.normalisation), architecture.signature.outputs
    if not any(spec.name in known for spec in outputs):
        return nn.Identity()
    if len(outputs) == 1:
        return OutputScale(known[outputs[0].name])
    mean, std = [], []
    for name, size in architecture.signature.vector_sizes.items():
        values = known.get(name, Normalisation(mean=0, std=1.0))
        mean += _numbers(values.mean, size)
        std += _numbers(values.std, size)
    return OutputScale(Normalisation(mean=tuple(mean), std=tuple(std)))


def _numbers(values: float | tuple[float, ...], count: int) -> list[float]:
    return list(values) if isinstance(values, tuple) else [float(values)] * count


def _along_channels(values: float | tuple[float, ...], ndim: int) -> Tensor:
    numbers = torch.tensor(values if isinstance(values, tuple) else (values,), dtype=torch.float32)
    return numbers.reshape(1, -1, *[1] * (ndim - 2)) if ndim > 1 else numbers
