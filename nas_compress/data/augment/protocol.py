"""Augmentation by a finite number of numbered views.

Each view of the training data is a fixed function of its samples. A teacher's logits can therefore be computed once per
view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Batch, chosen
from nas_compress.values.signature import TensorSpec


def is_of_images(specs: tuple[TensorSpec, ...]) -> bool:
    """Return True if every input is an image (N, C, H, W) of a fixed size."""
    return all(len(spec.shape) == 4 and all(isinstance(side, int) for side in spec.sample_shape) for spec in specs)


class Views(Protocol):
    """All views of the samples of one split."""

    def batch(self, index: Tensor, view: int) -> Batch:
        """Return the inputs of the samples at `index` (B,) in one view, 0 <= view < count."""

    def targets(self, targets: Batch, index: Tensor, view: int) -> Batch:
        """Return the targets of the samples at `index` (B,) in one view. targets: of the whole split."""
        return chosen(targets, index)

    def order(self, samples: int, view: int | None, shuffle: torch.Generator | None) -> Tensor:
        """Return the order (N,) of all samples in an epoch, drawn from `shuffle`.

        view: of the whole epoch, None if steps have views of their own. shuffle: None for an order without chance.
        """
        return torch.arange(samples) if shuffle is None else torch.randperm(samples, generator=shuffle)

    def arranged(self, drawn: Tensor, view: int | None, shuffle: torch.Generator) -> Tensor:
        """Return an order (N,) that was drawn with repetition, on the CPU, or a better one of the same samples.

        view, shuffle: as in `order`.
        """
        return drawn


@runtime_checkable
class Augmentation(Protocol):
    """Views of a sample. A class of the user subclasses this Protocol."""

    @property
    def count(self) -> int:
        """Number of views."""

    @property
    def identity(self) -> str:
        """Text that enters the fingerprint of the data; it differs if any view differs."""

    @property
    def mixes(self) -> bool:
        """True if views mix samples; their targets are then soft, see `Task.mixed`."""
        return False

    @property
    def for_labels(self) -> Augmentation:
        """Views for trainings on labels alone; the same ones by default."""
        return self

    def check(self, inputs: tuple[TensorSpec, ...]) -> None:
        """Raise RequestError if the views need other inputs."""

    def over(self, inputs: Batch) -> Views:
        """Prepare the views of the inputs of a whole split; called once per training."""

    def view_of(self, epoch: int) -> int | None:
        """Return the view of an epoch, from 0; None if a view is drawn for each step."""
        return None


@dataclass(frozen=True, kw_only=True)
class NoAugmentation(Augmentation):
    """One view, the sample itself, for inputs of any kind."""

    count: int = 1
    identity: str = "none"

    def check(self, inputs: tuple[TensorSpec, ...]) -> None:
        """Accept any inputs."""

    def over(self, inputs: Batch) -> Views:
        """Prepare the one view."""
        return _Plain(inputs=inputs)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plain(Views):
    inputs: Batch

    def batch(self, index: Tensor, view: int) -> Batch:
        """Return the samples at `index`."""
        if view != 0:
            raise RequestError(f"0 <= view < 1 must hold, but got view={view}")
        return chosen(self.inputs, index)
