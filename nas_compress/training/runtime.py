"""Device, threads and memory of a training."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator

import torch
from torch import nn

from nas_compress.errors import RequestError
from nas_compress.models.detached_copy import detached_copy
from nas_compress.models.macs import count_macs
from nas_compress.tasks.batch import Batch, device_of

THREADED_MACS = 500_000_000
"""Least forward multiply-adds of a batch for several threads on a CPU. In smaller batches an operation takes
microseconds; threads then wait longer than they work, and many times longer if another program occupies a core. A
count decides, not a timing, because the same training must give the same bits."""

MOST_SIDES = 4
"""Dimensions of a kernel of images."""

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_TRIM_BYTES = 1 << 30
_MMAP_BYTES = (1 << 30, 32 << 20)  # older versions take no more than the second


def choose_device(wanted: str) -> torch.device:
    """Return the device for `cpu`, `cuda`, or `auto`: the GPU if there is one."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RequestError("device = 'cuda' needs a GPU that torch can use, but there is none; use 'auto' or 'cpu'")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory for its next tensors; return True on success.

    By default glibc returns the activations of a step to the system and requests them again in the next step, page by
    page. This takes up to a third of the time of small networks with large feature maps. No effect with another C
    library or system.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)) and any(
        mallopt(_M_MMAP_THRESHOLD, size) for size in _MMAP_BYTES
    )


def memory_format_for(model: nn.Module, samples: Batch) -> torch.memory_format:
    """Return channels_last, the faster order of images, if the model runs with it; else the contiguous order.

    A user's `hidden.view(-1, 1024)` needs the contiguous order. samples: a few rows on the model's device.
    """
    if any(parameter.ndim > MOST_SIDES for parameter in model.parameters()):  # kernels of volumes
        return torch.contiguous_format
    tried = detached_copy(model).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    try:
        with torch.no_grad(), torch.random.fork_rng():
            tried(*samples.values())
    except RuntimeError as error:
        return torch.contiguous_format if "view size" in str(error) else torch.channels_last
    return torch.channels_last


@contextlib.contextmanager
def fitting_threads(model: nn.Module, sample: Batch, *, batch_size: int, macs: int | None = None) -> Iterator[None]:
    """Let torch use one thread inside if a batch is little work for a CPU.

    sample: one row of the batch. macs: its multiply-adds; counted if None.
    """
    before = torch.get_num_threads()
    if device_of(sample).type == "cpu" and before > 1:
        count = count_macs(model, sample) if macs is None else macs
        if count * batch_size < THREADED_MACS:
            torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
