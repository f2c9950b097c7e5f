"""How the C library treats freed memory while a network trains."""

from __future__ import annotations

import ctypes
import functools

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_TRIM_BYTES = 1 << 30
_MMAP_BYTES = (1 << 30, 32 << 20)  # older versions take no more than the second


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory for its next tensors; True where that could be set.

    Left alone, glibc hands the activations of a step back to the system and asks for them again in the next step,
    page by page: up to a third of the time of small networks with large feature maps. Does nothing with another C
    library, or on another system.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)) and any(
        mallopt(_M_MMAP_THRESHOLD, size) for size in _MMAP_BYTES
    )
