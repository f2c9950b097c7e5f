"""The three parts of a data set. The test part is another type, so that no search takes it by mistake."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import torch

from nas_compress.data.augmentation import Views
from nas_compress.errors import RequestError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Samples with their labels: inputs uint8 (N, C, H, W) as the data set stores them, labels int64 (N,)."""

    name: Literal["train", "validation", "test"]
    inputs: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        _require_samples(self.inputs, self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same split on a device."""
        return Split(name=self.name, inputs=self.inputs.to(device), labels=self.labels.to(device))


class HeldOutSplit:
    """The test samples behind one door. It has a length, but neither inputs nor labels to take in passing."""

    __slots__ = ("_inputs", "_labels")

    def __init__(self, *, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        _require_samples(inputs, labels)
        self._inputs = inputs
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels)

    def __repr__(self) -> str:
        return f"HeldOutSplit({len(self)} samples)"

    def reveal(self, *, purpose: str) -> Split:
        """Hand out the test samples; the purpose is logged, and may not be empty."""
        if not purpose.strip():
            raise RequestError(f"purpose must say why the test split is read, but got purpose={purpose!r}")
        _log.info("test split (%d samples) revealed: %s", len(self), purpose)
        return Split(name="test", inputs=self._inputs, labels=self._labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set as the search uses it.

    `mean` and `std` (> 0) are the training split's, in raw sample values, over all pixels and channels.
    `fingerprint` is 16 hexadecimal digits over the contents of train and validation and over the views.
    """

    name: str
    classes: int
    train: Split
    validation: Split
    test: HeldOutSplit
    mean: int
    std: float
    views: Views
    fingerprint: str

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one sample."""
        channels, height, width = self.train.inputs.shape[1:]
        return channels, height, width


def _require_samples(inputs: torch.Tensor, labels: torch.Tensor) -> None:
    if inputs.dtype != torch.uint8 or inputs.ndim != 4:
        raise RequestError(f"inputs must be uint8 (N, C, H, W), but got {inputs.dtype} {tuple(inputs.shape)}")
    if labels.dtype != torch.int64 or labels.shape != inputs.shape[:1]:
        raise RequestError(f"labels must be int64 ({len(inputs)},), but got {labels.dtype} {tuple(labels.shape)}")
