"""`[data] preprocess`: a module of the user in front of every network, and the statistics behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nas_compress.data.input_statistics import input_normalisation
from nas_compress.errors import RequestError, describe, refusal
from nas_compress.tasks.memory_map import Rows
from nas_compress.tasks.preparation import declare_preparation, preparation, require_preparation
from nas_compress.user_code import code_digest, user_callable
from nas_compress.values.normalisation import Normalisation

MOST_BYTES, LEAST_ROWS = 64_000_000, 256
"""Bytes of prepared samples for the statistics, and samples that are taken at least."""


def load_preparation(reference: str, *, folder: Path | None, where: str) -> str:
    """Call `module:callable` for a module, declare it, and return its name. RequestError if it returns none."""
    with user_callable(reference, folder=folder, where=where, role="preprocess") as factory:
        try:
            module = factory()
        except Exception as error:
            raise refusal(f"{reference} must return a module, but raised {describe(error)}", where) from error
        if not isinstance(module, nn.Module):
            rule = f"preprocess must be a function that returns a torch.nn.Module, but {reference} returned"
            raise refusal(f"{rule} {type(module).__name__}", where)
    name = f"{reference} {(code_digest(reference, folder=folder) or '')[:16]}".strip()
    declare_preparation(name, module.eval())
    return name


def prepared_normalisation(name: str, values: Rows, *, per_channel: bool, where: str) -> Normalisation:
    """Return the statistics of prepared samples, of a part if there are many; RequestError if the module is unsound.

    name: of the declared module. values: raw samples. per_channel, where: as in `input_normalisation`.
    """
    module, reference = preparation(name), name.split()[0]
    row_bytes = 4 * max(1, values.size // max(1, len(values)))
    count = min(len(values), max(LEAST_ROWS, MOST_BYTES // row_bytes))
    index = np.linspace(0, len(values) - 1, count).astype(np.int64)
    try:
        require_preparation(module, torch.from_numpy(np.array(values[index[:2]])), reference)
    except RequestError as error:
        raise refusal(str(error), where) from error
    parts: list[NDArray[np.float32]] = []
    with torch.no_grad():
        for piece in np.array_split(index, max(1, count // LEAST_ROWS)):
            parts.append(module(torch.from_numpy(np.array(values[piece]))).numpy())
    found = input_normalisation(np.concatenate(parts), per_channel=per_channel, where=where)
    return Normalisation(mean=found.mean, std=found.std, prepare=name)
