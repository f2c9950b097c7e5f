"""Logits distillation (Hinton, Vinyals, Dean 2015, arXiv 1503.02531)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """`T^2 * mean_b KL(softmax(teacher / T) || softmax(student / T))`, summed over classes.

    student_logits, teacher_logits: (B, C); no gradient reaches the teacher. Returns a scalar in float32.
    """
    student = F.log_softmax(student_logits.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.detach().float() / temperature, dim=1)
    # one factor, as each operation on a scalar costs as much as one on the small batch
    return F.kl_div(student, teacher, reduction="sum", log_target=True) * (temperature**2 / len(student))
