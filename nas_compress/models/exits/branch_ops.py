"""Torch operators that an exporter writes as a branch: the rest of a network runs only if a sample needs it.

In torch both sides are computed, and each sample of a batch gets its own side. In a file only one side runs, so a file
has one sample per run. Neither operator has a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("nas_compress::early_exit", mutates_args=())
def early_exit(
    confidence: Tensor, threshold: Tensor, early: Tensor, late: Tensor, late_exit: Tensor, number: int
) -> tuple[Tensor, Tensor]:
    """Return answers (N, K) and numbers of exits int64 (N,): of this exit if confidence (N,) >= threshold (1,).

    early: answers of this exit. late, late_exit: answers and numbers of the exits behind it. number: of this exit.
    """
    leaves = confidence >= threshold
    own = torch.full_like(late_exit, number)
    return torch.where(leaves[:, None], early, late), torch.where(leaves, own, late_exit)


@torch.library.custom_op("nas_compress::last_exit", mutates_args=())
def last_exit(answers: Tensor, number: int) -> Tensor:
    """Return the number of the end of the network for each of the answers (N, K): int64 (N,)."""
    return torch.full((len(answers),), number, dtype=torch.int64, device=answers.device)
