from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from nas_compress.training.memory import keep_freed_memory

FAULTS = """
import resource, sys
import torch
from nas_compress.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def pass_over():
    return [torch.ones(1_000_000) for _ in range(8)]
for _ in range(3):
    pass_over()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    pass_over()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str) -> int:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True, env=clean)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_tensors_of_each_step_take_the_memory_of_the_last() -> None:
    assert faults("keep") * 10 < faults("leave")


def test_it_may_be_asked_for_again() -> None:
    assert keep_freed_memory() is keep_freed_memory()
