"""The random states that a training may read: torch's, NumPy's and Python's."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_CPU = "cpu"


def seed_all(seed: int) -> None:
    """Seed every generator that a network of the user may read, on all devices."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def random_states(device: torch.device) -> dict[str, Any]:
    """Return the states as plain values and tensors: `torch` by device, `numpy` and `python`."""
    states = {_CPU: torch.get_rng_state()}
    if device.type == "cuda":
        states[str(device)] = torch.cuda.get_rng_state(device)
    name, keys, *rest = np.random.get_state(legacy=True)
    return {"torch": states, "numpy": [name, np.asarray(keys).tolist(), *rest], "python": random.getstate()}


def set_random_states(states: Mapping[str, Any]) -> None:
    """Restore the result of `random_states`."""
    for device, state in states["torch"].items():
        if device == _CPU:
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    random.setstate(states["python"])


@contextmanager
def kept_random_states(device: torch.device) -> Iterator[None]:
    """Restore the states after the block.

    Work that a cache may save must not change the random numbers of a trial.
    """
    states = random_states(device)
    try:
        yield
    finally:
        set_random_states(states)
