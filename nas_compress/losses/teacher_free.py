"""The virtual teacher (Yuan et al. 2020, arXiv 1909.11723, section 4.2): the control without any knowledge."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def teacher_free(student_logits: Tensor, labels: Tensor, *, confidence: float, temperature: float) -> Tensor:
    """`T^2 * mean_b KL(p || softmax(student / T))`; p gives the label `confidence` and the rest alike, softened by T.

    student_logits: (B, C); labels: (B,) int64. Returns a scalar in float32.
    """
    classes = student_logits.shape[1]
    other = math.log((1 - confidence) / (classes - 1))
    virtual = torch.full(student_logits.shape, other, device=student_logits.device)
    virtual = virtual.scatter(1, labels[:, None], math.log(confidence))
    target = F.log_softmax(virtual / temperature, dim=1)
    student = F.log_softmax(student_logits.float() / temperature, dim=1)
    return F.kl_div(student, target, reduction="sum", log_target=True) * (temperature**2 / len(student))
