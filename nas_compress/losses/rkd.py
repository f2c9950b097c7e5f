"""Relational distillation (Park et al. 2019, arXiv 1904.05068): distances and angles between the batch's samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.losses.layer_matching import pooled_embedding
from nas_compress.losses.term import FeatureLoss
from nas_compress.models.features import Observation

ANGLE_SAMPLES = 32
"""Angles are taken among so many samples of a batch: their number grows with its cube."""

_EPSILON = 1e-12


class RkdDistance(FeatureLoss):
    """`rkd_distance` of the pooled last features."""

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """A scalar in float32."""
        return rkd_distance(pooled_embedding(student), pooled_embedding(teacher).detach())


class RkdAngle(FeatureLoss):
    """`rkd_angle` of the pooled last features of the batch's first samples."""

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """A scalar in float32."""
        ours, theirs = pooled_embedding(student), pooled_embedding(teacher).detach()
        return rkd_angle(ours[:ANGLE_SAMPLES], theirs[:ANGLE_SAMPLES])


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over B x B of Huber's loss between distances, each network's over its own mean (equations 5-7).

    student (B, d), teacher (B, e): embeddings; the widths may differ. The mean distance is over those that are not 0.
    """
    return F.smooth_l1_loss(_distances(student.float()), _distances(teacher.float()))


def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over B x B x B of Huber's loss between the cosines of the angles at each sample (equations 8-9).

    student (B, d), teacher (B, e): embeddings; the widths may differ.
    """
    return F.smooth_l1_loss(_cosines(student.float()), _cosines(teacher.float()))


def _distances(embedding: Tensor) -> Tensor:
    # by differences: through products, near samples would lose their distance to rounding; its slope at 0 is 0
    distances = torch.cdist(embedding, embedding, compute_mode="donot_use_mm_for_euclid_dist")
    apart = distances > _EPSILON
    return distances / (distances.sum() / apart.sum().clamp(min=1)).clamp(min=_EPSILON)


def _cosines(embedding: Tensor) -> Tensor:
    differences = F.normalize(embedding[None] - embedding[:, None], dim=2)  # at each sample, towards each other one
    return torch.bmm(differences, differences.transpose(1, 2))
