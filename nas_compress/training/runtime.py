"""Where training runs, and its precision there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas_compress.errors import RequestError

THREADED_MACS = 500_000_000
"""Forward multiply-adds of a batch from which torch's threads share the work on a CPU. In a smaller one each operation
takes microseconds, and threads that meet after each wait longer than they work, many times longer where another
program holds a core. A count and not a timing decides, so that the same training gives the same bits."""


def choose_device(wanted: str) -> torch.device:
    """`cpu`, `cuda`, or `auto`: the GPU where there is one."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RequestError("device = 'cuda' needs a GPU that torch can use, but there is none; use 'auto' or 'cpu'")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 autocast on a GPU, nothing elsewhere. Losses are computed in float32 by their own definition."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def fitting_threads(model: nn.Module, sample: Tensor, *, batch_size: int) -> Iterator[None]:
    """Inside, torch computes with one thread where batches of `sample` (1, C, H, W) are small work for a CPU."""
    before = torch.get_num_threads()
    if sample.device.type == "cpu" and before > 1 and _macs(model, sample) * batch_size < THREADED_MACS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _macs(model: nn.Module, sample: Tensor) -> int:
    training = {module: module.training for module in model.modules()}
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            model.eval()(sample)
    finally:
        for module, was_training in training.items():
            module.training = was_training
    return int(counter.get_total_flops()) // 2
