"""Hard-label distillation (Touvron et al. 2021, arXiv 2012.12877, section 4)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def hard_label(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy on the class that the teacher would choose, mean over the batch.

    student_logits, teacher_logits: (B, C). Returns a scalar in float32.
    """
    return F.cross_entropy(student_logits.float(), teacher_logits.detach().argmax(dim=1))
