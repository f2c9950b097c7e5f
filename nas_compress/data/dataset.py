"""Training, validation and test splits of a data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from nas_compress.data.augment.protocol import Augmentation
from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Batch, count, picked, require_fitting, rows, to_device, unpadded
from nas_compress.tasks.task import Task
from nas_compress.values.normalisation import Normalisation
from nas_compress.values.signature import Signature

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Samples with their targets: tensors by name, in the order of the task's signature and targets.

    tokens: names of the inputs that are token ids; batches need no more padding than their longest sample.
    """

    name: Literal["train", "validation", "test"]
    inputs: Batch
    targets: Batch
    tokens: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_equal_lengths(self.inputs, self.targets)

    def __len__(self) -> int:
        return count(self.inputs)

    def to(self, device: torch.device | str) -> Split:
        """The same split on a device."""
        return replace(self, inputs=to_device(self.inputs, device), targets=to_device(self.targets, device))

    def labelled(self, task: Task) -> Split:
        """Return the samples with a label; the split itself if all have one."""
        known = task.labelled(self.targets)
        return self if bool(known.all()) else self.at(known.nonzero()[:, 0])

    def at(self, index: Tensor) -> Split:
        """Return the samples at `index` (B,); rows of a memory map are not read."""
        return replace(self, inputs=picked(self.inputs, index), targets=picked(self.targets, index))

    def first(self, samples: int) -> Split:
        """The first samples, at most as many as there are, without padding behind all of them."""
        inputs = unpadded(rows(self.inputs, 0, samples), self.tokens)
        return replace(self, inputs=inputs, targets=rows(self.targets, 0, samples))


class HeldOutSplit:
    """The test split; only `reveal` returns its samples, to keep search code from using them by accident."""

    __slots__ = ("_inputs", "_targets", "_tokens")

    def __init__(self, *, inputs: Batch, targets: Batch, tokens: tuple[str, ...] = ()) -> None:
        _require_equal_lengths(inputs, targets)
        self._inputs = inputs
        self._targets = targets
        self._tokens = tokens

    def __len__(self) -> int:
        return count(self._inputs)

    def __repr__(self) -> str:
        return f"HeldOutSplit({len(self)} samples)"

    def reveal(self, *, purpose: str) -> Split:
        """Return the test samples; the purpose is logged and may not be empty. RequestError if there are none."""
        if not len(self):
            raise RequestError('the data must have a test split to read, but their function returned none; add "test"')
        if not purpose.strip():
            raise RequestError(f"purpose must say why the test split is read, but got purpose={purpose!r}")
        _log.info("test split (%d samples) revealed: %s", len(self), purpose)
        return Split(name="test", inputs=self._inputs, targets=self._targets, tokens=self._tokens)

    def require_fitting(self, task: Task) -> None:
        """Raise RequestError unless the samples are of the task's types and shapes."""
        _require_fitting(self._inputs, self._targets, task)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set as the search uses it.

    normalisation: statistics of the training split, by input; inputs without one are used as they are. fingerprint: 16
    hexadecimal digits over the contents of train and validation and over the augmentation. RequestError if a split does
    not fit the task.
    sizes: the same samples as smaller pictures, by pixels of a side, or as word pieces, by the size of the vocabulary.
    vocabulary_size: the size among these by which the data are known; None if students choose no vocabulary.
    """

    name: str
    task: Task
    train: Split
    validation: Split
    test: HeldOutSplit
    normalisation: Mapping[str, Normalisation]
    augmentation: Augmentation
    fingerprint: str
    sizes: Mapping[int, Dataset] = field(default_factory=dict)
    vocabulary_size: int | None = None

    def __post_init__(self) -> None:
        self.augmentation.check(self.task.signature.inputs)
        for split in (self.train, self.validation):
            _require_fitting(split.inputs, split.targets, self.task)
        self.test.require_fitting(self.task)

    @cached_property
    def labelled_samples(self) -> int:
        """Number of training samples with a label."""
        return int(self.task.labelled(self.train.targets).sum())

    @property
    def example(self) -> Batch:
        """Inputs of two training samples, for passes that need shapes only."""
        return self.train.first(2).inputs

    def at(self, size: int | None) -> Dataset:
        """Return the data as pictures or vocabulary of a size, themselves for None. RequestError for another size."""
        own = self.task.signature.inputs[0].shape[-1]
        if size in (None, own, self.vocabulary_size):
            return self
        if size not in self.sizes:
            key = "image_size" if isinstance(own, int) else "vocabulary_size"
            every = [*self.sizes, own] if isinstance(own, int) else [*self.sizes]
            known = f"one of {', '.join(map(str, every))}" if self.sizes else "left out"
            raise RequestError(f"{key} must be {known}, as in data.{key}, but got {key}={size}")
        return self.sizes[size]

    @property
    def longest(self) -> int | None:
        """Tokens of the longest training sample; None for inputs without tokens."""
        names = self.train.tokens
        return max(self.train.inputs[name].shape[1] for name in names) if names else None

    def fitting(self, signature: Signature) -> Dataset:
        """Return the data whose pictures have the size of a network's inputs; the data themselves without such."""
        found = (each for each in self.sizes.values() if each.task.signature.inputs == signature.inputs)
        return next(found, self)


def _require_equal_lengths(inputs: Batch, targets: Batch) -> None:
    lengths = {name: len(tensor) for name, tensor in {**inputs, **targets}.items()}
    if len(set(lengths.values())) != 1:
        shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise RequestError(f"inputs and targets must have one row per sample, but got {shown or 'none'}")


def _require_fitting(inputs: Batch, targets: Batch, task: Task) -> None:
    require_fitting(inputs, task.signature.inputs)
    for spec in task.signature.inputs:
        if spec.values is not None and count(inputs):
            _require_tokens(inputs[spec.name], spec.name, spec.values)
    require_fitting(targets, task.targets, samples=count(inputs))


def _require_tokens(ids: Tensor, name: str, values: int) -> None:
    """Raise RequestError unless the ids are in range, each sample has a token, and padding is behind its tokens."""
    if not ids.shape[1]:
        raise RequestError(f"each sample must have a token, but got {name}: {tuple(ids.shape)}")
    least, most = int(ids.min()), int(ids.max())
    if least < 0 or most >= values:
        wrong = least if least < 0 else most
        raise RequestError(f"0 <= {name} < {values} (size of the vocabulary) must hold for token ids, but got {wrong}")
    padding = ids == 0
    if bool(padding[:, 0].any()):
        sample = int(padding[:, 0].nonzero()[0])
        raise RequestError(f"each sample must begin with a token, but {name} {sample} begins with padding (0)")
    broken = (padding[:, :-1] & ~padding[:, 1:]).any(dim=1)
    if bool(broken.any()):
        sample = int(broken.nonzero()[0])
        raise RequestError(
            f"padding (0) must be behind the tokens of a sample, but {name} {sample} has tokens after it"
        )
