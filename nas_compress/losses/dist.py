"""DIST (Huang et al. 2022, arXiv 2205.10536, equations 6-9): match correlations, not probabilities."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def dist(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float, beta: float, gamma: float) -> Tensor:
    """`T^2 * (beta * inter + gamma * intra)`, each 1 minus the mean Pearson correlation of softened probabilities.

    inter: over the classes of each sample; intra: over the samples of each class, so the batch must not be tiny.
    student_logits, teacher_logits: (B, C). Returns a scalar in float32.
    """
    student = (student_logits.float() / temperature).softmax(dim=1)
    teacher = (teacher_logits.detach().float() / temperature).softmax(dim=1)
    inter = 1 - _pearson(student, teacher).mean()
    intra = 1 - _pearson(student.T, teacher.T).mean()
    return (beta * inter + gamma * intra) * temperature**2


def _pearson(first: Tensor, second: Tensor) -> Tensor:
    """Row by row; 0 where a row is constant."""
    return F.cosine_similarity(
        first - first.mean(dim=1, keepdim=True), second - second.mean(dim=1, keepdim=True), dim=1, eps=1e-8
    )
