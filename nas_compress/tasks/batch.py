"""Named tensors of a batch, in the order of a signature."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_compress.errors import RequestError
from nas_compress.tasks.memory_map import MappedRows, MappedTensor, Rows
from nas_compress.values.signature import TensorSpec
from nas_compress.values.text.measured_lengths import Lengths, SampleSizes

Batch: TypeAlias = Mapping[str, Tensor]
"""Tensors by name, in signature order; each has one row per sample."""

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
"""The same as NumPy arrays."""

PASS_VALUES = 8_000_000
"""Input values of a forward pass, at most; 32 MB as floats."""

InputRows: TypeAlias = Mapping[str, Rows]
"""Inputs by name, as arrays or in a memory map."""


def named_outputs(returned: Tensor | Sequence[Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Name the outputs of a network: a tensor, or one tensor per name in order.

    >>> {name: tuple(value.shape) for name, value in named_outputs(torch.zeros(2, 3), ["logits"]).items()}
    {'logits': (2, 3)}
    """
    tensors = [returned] if isinstance(returned, Tensor) else list(returned)
    if len(tensors) != len(names):
        raise RequestError(f"a network must return {len(names)} outputs ({', '.join(names)}), but got {len(tensors)}")
    return dict(zip(names, tensors, strict=True))


def rows(batch: Batch, start: int, end: int) -> dict[str, Tensor]:
    """Samples `start` to `end` (excluded) of every tensor; views of the same memory."""
    return {name: tensor[start:end] for name, tensor in batch.items()}


def chosen(batch: Batch, index: Tensor) -> dict[str, Tensor]:
    """The samples at `index` (B,), copied."""
    return {name: tensor.index_select(0, index) for name, tensor in batch.items()}


def picked(batch: Batch, index: Tensor) -> dict[str, Tensor]:
    """The samples at `index` (B,); rows of a memory map stay in their file."""
    return {
        name: MappedTensor(tensor.source.take(index.cpu().numpy()), tensor.device)
        if isinstance(tensor, MappedTensor)
        else tensor.index_select(0, index)
        for name, tensor in batch.items()
    }


def to_device(batch: Batch, device: torch.device | str) -> dict[str, Tensor]:
    """The same tensors on a device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


def to_arrays(batch: Batch) -> dict[str, NDArray[Any]]:
    """The tensors as NumPy arrays; bfloat16 and float16 become float32."""
    return {name: _to_array(tensor) for name, tensor in batch.items()}


def to_rows(batch: Batch) -> dict[str, Rows]:
    """The tensors as NumPy arrays; memory maps stay what they are."""
    return {
        name: tensor.source if isinstance(tensor, MappedTensor) else _to_array(tensor) for name, tensor in batch.items()
    }


def to_tensors(arrays: InputRows) -> dict[str, Tensor]:
    """The arrays as tensors of the same memory."""
    return {
        name: MappedTensor(values) if isinstance(values, MappedRows) else torch.from_numpy(values)
        for name, values in arrays.items()
    }


def count(batch: Batch) -> int:
    """The number of samples."""
    return len(next(iter(batch.values())))


def split(batch: Batch, size: int) -> Iterator[dict[str, Tensor]]:
    """Consecutive batches of `size` samples, one after the other; the last one has the rest."""
    return (rows(batch, start, start + size) for start in range(0, count(batch), size))


def device_of(batch: Batch) -> torch.device:
    """The device of the first tensor."""
    return next(iter(batch.values())).device


def fitting(batch: Batch | InputRows, most: int) -> int:
    """The number of samples for a forward pass: `most`, or fewer of large samples, because activations take memory.

    >>> fitting({"input": torch.zeros(2, 3, 224, 224)}, 512), fitting({"input": torch.zeros(2, 1, 28, 28)}, 512)
    (53, 512)
    """
    values = sum(math.prod(each.shape[1:]) for each in batch.values())
    return max(1, min(most, PASS_VALUES // max(1, values)))


def zeros(
    specs: Iterable[TensorSpec], samples: int, *, sizes: Mapping[str, int] | None = None, free: int = 1
) -> dict[str, Tensor]:
    """Tensors of zeros for shape checks; token ids are 1, because 0 is padding, and texts have a word in each byte.

    sizes: of free dimensions by name; others have `free` entries.
    """
    known = sizes or {}
    return {
        spec.name: torch.full(
            (samples, *(size if isinstance(size, int) else known.get(size, free) for size in spec.sample_shape)),
            0 if spec.values is None else 1 if spec.words is None else ord("!"),
            dtype=getattr(torch, spec.dtype),
        )
        for spec in specs
    }


def free_sizes(batch: Batch, specs: Iterable[TensorSpec]) -> dict[str, int]:
    """Sizes that a batch has in the free dimensions of its specs, without the number of samples.

    >>> free_sizes({"tokens": torch.zeros(2, 7)}, [TensorSpec(name="tokens", dtype="int64", shape=("N", "length"))])
    {'length': 7}
    """
    return {
        name: batch[spec.name].shape[place] for spec in specs for place, name in spec.free_dimensions.items() if place
    }


def timed_sizes(batch: Batch, specs: Sequence[TensorSpec]) -> SampleSizes:
    """Sizes at which a file is timed: those of the batch, or the lengths of samples of several lengths."""
    known = {
        name: spec.lengths for spec in specs if spec.lengths for place, name in spec.free_dimensions.items() if place
    }
    return free_sizes(batch, specs) | known


def require_fitting(batch: Batch, specs: Sequence[TensorSpec], *, samples: int | None = None) -> None:
    """Raise RequestError unless the tensors have the names, types, shapes and one number of samples."""
    names = [spec.name for spec in specs]
    if list(batch) != names:
        raise RequestError(f"tensors must be {', '.join(names)} in this order, but got {', '.join(batch) or 'none'}")
    free: dict[str, int] = {"N": count(batch) if samples is None else samples}
    for spec in specs:
        tensor = batch[spec.name]
        found = str(tensor.dtype).removeprefix("torch.")
        fits = found == spec.dtype and tensor.ndim == len(spec.shape)
        for size, actual in zip(spec.shape, tensor.shape, strict=False):
            fits = fits and actual == (size if isinstance(size, int) else free.setdefault(size, actual))
        if not fits:
            shape = ", ".join(str(free.get(size, size)) if isinstance(size, str) else str(size) for size in spec.shape)
            shape += "," if len(spec.shape) == 1 else ""
            raise RequestError(f"{spec.name} must be {spec.dtype} ({shape}), but got {found} {tuple(tensor.shape)}")


def token_names(specs: Iterable[TensorSpec]) -> tuple[str, ...]:
    """Names of the tensors of token ids, which have padding behind their tokens."""
    return tuple(spec.name for spec in specs if spec.values is not None)


def token_lengths(batch: Batch, names: Sequence[str]) -> Tensor:
    """The number of tokens of each sample, int64 (N,); the largest one of several inputs.

    >>> token_lengths({"input": torch.tensor([[7, 7, 0], [5, 0, 0]])}, ["input"]).tolist()
    [2, 1]
    """
    return torch.stack([(batch[name][:] != 0).sum(dim=1) for name in names]).amax(dim=0)


STRATA = 16
"""Lengths at which the mean cost of samples of several lengths is measured."""


def lengths_of(ids: NDArray[Any]) -> Lengths:
    """The lengths of token ids (N, T) with padding 0.

    >>> lengths_of(np.array([[7, 7, 7], [5, 0, 0]])).strata[:2], lengths_of(np.array([[7, 7, 7], [5, 0, 0]])).mean
    ((1, 1), 2)
    """
    found = np.sort((ids != 0).sum(axis=1))
    middles = (2 * np.arange(STRATA) + 1) * len(found) // (2 * STRATA)
    return Lengths(
        strata=tuple(found[middles].tolist()),
        mean=max(1, round(float(found.mean()))),
        p95=int(found[math.ceil(0.95 * len(found)) - 1]),
    )


def one_sample(batch: Batch, specs: Iterable[TensorSpec]) -> dict[str, Tensor]:
    """The first sample, and one of the mean length in place of those whose lengths are known.

    It has the id 1 for tokens, or words of the usual length for texts.
    """
    sample = rows(batch, 0, 1)
    for spec in specs:
        if spec.lengths is not None:
            sample[spec.name] = torch.ones_like(sample[spec.name][:, :1]).repeat(1, spec.lengths.mean)
            if spec.words is not None:
                text = np.frombuffer(spec.words.sample(1, spec.lengths.mean), dtype=np.uint8)
                sample[spec.name] = torch.from_numpy(text[None].copy()).to(sample[spec.name].device)
    return sample


def unpadded(batch: Batch, names: Sequence[str]) -> Batch:
    """The batch without the positions that are padding in all samples. names: tensors of token ids.

    >>> unpadded({"input": torch.tensor([[7, 7, 0], [5, 0, 0]])}, ["input"])["input"].tolist()
    [[7, 7], [5, 0]]
    """
    if not names or not count(batch):
        return batch
    longest = int(token_lengths(batch, names).max())
    return {name: tensor[:, :longest] if name in names else tensor for name, tensor in batch.items()}


def by_length(batch: Batch, names: Sequence[str]) -> tuple[Batch, Any]:
    """The samples in the order of their lengths, and an index that restores their order in results of all.

    names: tensors of token ids; without any, the samples stay as they are.
    """
    if not names:
        return batch, slice(None)
    order = token_lengths(batch, names).argsort(stable=True)
    return chosen(batch, order), order.argsort().cpu().numpy()


def largest_difference(found: Arrays, expected: Arrays) -> float:
    """The largest absolute difference of any number of any output; nan if one is not a number."""
    return max(float(np.abs(found[name] - expected[name]).max()) for name in expected)


def _to_array(tensor: Tensor) -> NDArray[Any]:
    if isinstance(tensor, MappedTensor):
        return tensor.source[:]
    narrow = tensor.is_floating_point() and tensor.itemsize < 4
    array: NDArray[Any] = (tensor.detach().float() if narrow else tensor.detach()).cpu().numpy()
    return array
