"""Distillation from a teacher whose other classes are shuffled (Furlanello et al. 2018, arXiv 1805.04770, "DKPP").

The control that shows how much of a gain is in how the teacher ranks the wrong classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nas_compress.losses.kd import kd


def permuted_kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """`kd`, but each sample's teacher logits are permuted at random, all but the largest.

    student_logits, teacher_logits: (B, C). The order comes from torch's global random state. Returns a scalar in
    float32.
    """
    return kd(student_logits, permuted(teacher_logits.detach()), temperature=temperature)


def permuted(logits: Tensor) -> Tensor:
    """Logits (B, C) whose largest stay in place, the others in random order."""
    largest = logits.argmax(dim=1, keepdim=True)
    places = torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
    # sorted by noise with the largest class first: both lists name the others, one in order, one at random
    noise = torch.rand(logits.shape, device=logits.device)
    order = places.float().scatter(1, largest, -1.0).argsort(dim=1)
    mixed = noise.scatter(1, largest, -1.0).argsort(dim=1)
    return torch.zeros_like(logits).scatter(1, order, logits.gather(1, mixed))
