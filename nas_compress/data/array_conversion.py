"""Conversion of a user's inputs to arrays of the types that a network takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas_compress.data.store.byte_values import stored_bytes
from nas_compress.errors import refusal
from nas_compress.tasks.batch import InputRows
from nas_compress.tasks.memory_map import MappedRows, Rows
from nas_compress.values.file_constants import INPUT_NAME

CHANNELS = (1, 3, 4)
"""Numbers of channels of common pictures."""

WIDER = {"bool": "uint8", "float64": "float32", "float16": "float32", "uint16": "int32", "uint32": "int64"}
"""Types that are converted, and the type that networks take instead."""

RESIDENT = 128_000_000
"""Bytes of an input up to which it is copied from a memory map to memory."""

KINDS = ("uint8", "int8", "int16", "int32", "int64", "float32")
"""Types of inputs as a network takes them."""


def as_array(value: object, place: str, where: str) -> NDArray[Any]:
    """Return a tensor or an array as an array of at least one dimension; RequestError for anything else."""
    if isinstance(value, torch.Tensor):
        try:
            return value.detach().cpu().numpy()
        except (TypeError, RuntimeError) as error:
            raise refusal(f"{place} must be of a dtype that numpy has, but got {value.dtype}", where) from error
    if isinstance(value, np.ndarray) and value.ndim > 0:
        return value
    raise refusal(f"{place} must be a numpy array or a torch tensor, but got {kind_of(value)}", where)


def as_inputs(value: object, split: str, where: str) -> InputRows:
    """Return the inputs of a split by name. value: one array, called `input`, or a mapping from names to arrays."""
    if not isinstance(value, Mapping):
        return {INPUT_NAME: as_input(as_array(value, f"inputs of {split}", where), split, where)}
    if not value:
        raise refusal(f"inputs of {split} must not be empty, but got no names", where)
    arrays: dict[str, Rows] = {}
    for name, each in value.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise refusal(f"inputs must have names of letters, digits and _, but got {name!r} in {split}", where)
        arrays[name] = as_input(as_array(each, f"{name} of {split}", where), f"{split}: {name}", where)
    return arrays


def as_input(values: NDArray[Any], place: str, where: str, *, identity: str | None = None) -> Rows:
    """Return one input (N, ...) in a type that networks take; bytes (N, H, W) get a channel.

    Large memory maps stay memory maps. identity: of the content of one, see `MappedRows`.

    RequestError for other types, for pictures with the channels last, and for bytes that were divided by 255.
    """
    kind = WIDER.get(values.dtype.name, values.dtype.name)
    if kind not in KINDS:
        raise refusal(f"inputs of {place} must be numbers, but got {values.dtype}", where)
    if values.size == 0:
        raise refusal(f"{place} must not be empty, but got inputs of shape {values.shape}", where)
    if values.ndim == 1:
        raise refusal(f"inputs of {place} must be (N, ...), but got shape {values.shape}; use x[:, None]", where)
    if values.ndim == 4 and values.shape[3] in CHANNELS and values.shape[1] not in CHANNELS:
        raise refusal(
            f"pictures must be (N, C, H, W), but got {values.shape} in {place}; use x.transpose(0, 3, 1, 2)", where
        )
    if kind == "float32" and values.ndim in (3, 4) and stored_bytes(values[:64]) is not None:
        raise refusal(
            f"pictures of {place} must be the stored bytes, but got floats in steps of 1/255; use "
            "(255 * x).round().astype('uint8'), because the file normalises them itself",
            where,
        )
    if kind == "uint8" and values.ndim == 3:
        values = values[:, None]
    if isinstance(values, np.memmap) and is_shared(values) and values.nbytes > RESIDENT:
        return MappedRows(values, kind=kind, identity=identity)
    # A copy: torch takes no read-only memory nor negative strides, and users may write to their arrays.
    return np.array(values, dtype=kind, order="C")


def as_targets(value: object, split: str, where: str) -> NDArray[Any]:
    """Return targets as an array; a list or tuple of words or numbers is one too. RequestError for other values."""
    array = np.asarray(value) if isinstance(value, list | tuple) else as_array(value, f"labels of {split}", where)
    if array.dtype.kind == "O" and all(isinstance(each, str) for each in array.flat):
        array = array.astype(str)
    if array.dtype.kind not in "iufbU" or array.ndim == 0:
        raise refusal(f"labels of {split} must be numbers or words, but got {array.dtype}", where)
    return array


def is_shared(values: np.memmap[Any, Any]) -> bool:
    """Return True unless the pages of a memory map may hold changes that are not in its file."""
    return getattr(values, "_mmap", None) is not None and values.mode != "c"


def kind_of(value: object) -> str:
    """Return the type of a value for an error, with its length for a pair or list."""
    size = f" of length {len(value)}" if isinstance(value, tuple | list) else ""
    return f"{type(value).__name__}{size}"
