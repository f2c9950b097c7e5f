"""Label refinery (Bagherinezhad et al. 2018, arXiv 1805.02641): the teacher's soft labels of this very view, alone."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def label_refinery(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """`-mean_b sum_c softmax(teacher)_c log softmax(student)_c`: cross-entropy with soft targets, no temperature.

    student_logits, teacher_logits: (B, C). Returns a scalar in float32.
    """
    return F.cross_entropy(student_logits.float(), teacher_logits.detach().float().softmax(dim=1))
