"""Decoupled distillation (Zhao et al. 2022, arXiv 2203.08679, equation 7)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_OUT = -1e9  # in float32; infinity would make 0 * infinity


def dkd(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float, beta: float
) -> Tensor:
    """`T^2 * (alpha * TCKD + beta * NCKD)`: the label's class against the rest, and the rest among themselves.

    student_logits, teacher_logits: (B, C); labels: (B,) int64. Both parts are mean_b KL. With two classes the rest is
    one class, NCKD is 0, and TCKD alone remains. Returns a scalar in float32.
    """
    own = F.one_hot(labels, student_logits.shape[1]).bool()
    student_binary, student_rest = _parts(student_logits.float() / temperature, own)
    teacher_binary, teacher_rest = _parts(teacher_logits.detach().float() / temperature, own)
    target = F.kl_div(student_binary, teacher_binary, reduction="batchmean", log_target=True)
    others = F.kl_div(student_rest, teacher_rest, reduction="batchmean", log_target=True)
    return (alpha * target + beta * others) * temperature**2


def _parts(logits: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (label, rest): (B, 2), and of the classes within the rest: (B, C)."""
    rest = logits.masked_fill(own, _OUT)
    logs = torch.stack([logits[own], rest.logsumexp(dim=1)], dim=1)
    return logs.log_softmax(dim=1), rest.log_softmax(dim=1)
