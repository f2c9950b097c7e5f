"""Similarity-preserving distillation (Tung, Mori 2019, arXiv 1907.09682, equations 2-4)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from nas_compress.losses.term import FeatureLoss
from nas_compress.models.features import Observation


class SimilarityPreserving(FeatureLoss):
    """`similarity_preserving` of the last features."""

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """A scalar in float32."""
        ours, theirs = (list(seen.features.values())[-1] for seen in (student, teacher))
        return similarity_preserving(ours, theirs.detach())


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """`||G_teacher - G_student||_F^2 / B^2`; G has the inner products of the batch's features, each row of length 1.

    student (B, ...), teacher (B, ...): features of any shapes.
    """
    return F.mse_loss(_similarities(student), _similarities(teacher))


def _similarities(features: Tensor) -> Tensor:
    flat = features.float().flatten(1)
    return F.normalize(flat @ flat.T, dim=1)
