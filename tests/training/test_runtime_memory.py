from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from nas_compress.training.runtime import keep_freed_memory

KEPT = """
import ctypes, sys
import torch
from nas_compress.training.runtime import keep_freed_memory

class MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = MallInfo
if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = mallinfo2().hblkhd
held = [torch.ones(1_000_000) for _ in range(8)]
mapped = mallinfo2().hblkhd - before
del held
print(mapped, mallinfo2().fordblks)
"""


def mapped_and_free_bytes(way: str) -> tuple[int, int]:
    """Bytes of 32 MB of tensors that were mapped for them alone, and bytes kept once they are freed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", KEPT, way], capture_output=True, text=True, check=True, env=clean)
    mapped, kept = done.stdout.split()
    return int(mapped), int(kept)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc from 2.33 on tells what it keeps")
def test_the_memory_of_freed_tensors_is_kept_for_the_next() -> None:
    mapped, kept = mapped_and_free_bytes("keep")
    assert mapped == 0 and kept >= 32_000_000
    mapped, kept = mapped_and_free_bytes("leave")
    assert mapped >= 32_000_000 > kept


def test_it_may_be_asked_for_again() -> None:
    assert keep_freed_memory() is keep_freed_memory()
