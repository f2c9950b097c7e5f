"""Cross-entropy on the labels, plain and smoothed."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(student_logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Mean over the batch of `-sum_c q_c log p_c` with `q = (1 - smoothing) onehot + smoothing / C`.

    student_logits: (B, C); labels: (B,) int64. Returns a scalar in float32.
    Label smoothing: Szegedy et al. 2016, arXiv 1512.00567, section 7.
    """
    return F.cross_entropy(student_logits.float(), labels, label_smoothing=smoothing)
