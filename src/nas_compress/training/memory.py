"""Keep the memory that a training step frees, instead of asking the kernel for it again in the next step."""

from __future__ import annotations

import ctypes
import functools
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""


@functools.cache
def keep_freed_memory() -> None:
    """Tell glibc not to return large blocks; nothing happens where the C library is another one.

    Activations of a batch are larger than glibc's limit for giving memory back, so each step would page all of it in
    again: half of the time of a step for networks with wide, thin layers.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(MMAP_THRESHOLD, 1 << 30)
    mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
