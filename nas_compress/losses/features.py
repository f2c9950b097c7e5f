"""Losses of features: relations between the samples of a batch, and maps (B, c, h, w) of convolutional networks."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.losses.layer_matching import by_relative_depth, pooled_embedding, same_size, stages, without_padding
from nas_compress.losses.term_kinds import FeatureLoss
from nas_compress.models.features import Observation

ANGLE_SAMPLES = 32
"""Samples of a batch between which `RkdAngle` takes angles: their number grows with the cube of this one."""

_EPSILON = 1e-12


class RkdDistance(FeatureLoss):
    """`rkd_distance` of the pooled last features."""

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """Return a scalar in float32."""
        return rkd_distance(pooled_embedding(student), pooled_embedding(teacher).detach())


class RkdAngle(FeatureLoss):
    """`rkd_angle` of the pooled last features of the batch's first samples."""

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """Return a scalar in float32."""
        ours, theirs = pooled_embedding(student), pooled_embedding(teacher).detach()
        return rkd_angle(ours[:ANGLE_SAMPLES], theirs[:ANGLE_SAMPLES])


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over B x B of Huber's loss between distances, each network's divided by its own mean distance.

    student (B, d), teacher (B, e): embeddings; the widths may differ. The mean is over distances other than 0.
    Park et al. 2019, arXiv 1904.05068, equations 5-7.
    """
    return F.smooth_l1_loss(_distances(student.float()), _distances(teacher.float()))


def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over B x B x B of Huber's loss between the cosines of the angles at each sample.

    student (B, d), teacher (B, e): embeddings; the widths may differ. Park et al. 2019, arXiv 1904.05068, equations
    8-9.
    """
    return F.smooth_l1_loss(_cosines(student.float()), _cosines(teacher.float()))


def _distances(embedding: Tensor) -> Tensor:
    # by differences: through products, rounding would hide the distance of near samples; the slope at 0 is 0
    distances = torch.cdist(embedding, embedding, compute_mode="donot_use_mm_for_euclid_dist")
    apart = distances > _EPSILON
    return distances / (distances.sum() / apart.sum().clamp(min=1)).clamp(min=_EPSILON)


def _cosines(embedding: Tensor) -> Tensor:
    differences = F.normalize(embedding[None] - embedding[:, None], dim=2)  # from each sample to every other one
    return torch.bmm(differences, differences.transpose(1, 2))


class SentenceEmbedding(FeatureLoss):
    """`sentence_embedding` of the pooled last features, through a projection if the widths differ."""

    def __init__(self, student: Observation, teacher: Observation) -> None:
        super().__init__(student, teacher)
        ours, theirs = pooled_embedding(student).shape[1], pooled_embedding(teacher).shape[1]
        self.projection = nn.Identity() if ours == theirs else nn.Linear(ours, theirs, bias=False)

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """Return a scalar in float32."""
        projected = cast(Tensor, self.projection(pooled_embedding(student))).float()
        return sentence_embedding(projected, pooled_embedding(teacher).detach())


def sentence_embedding(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the batch of `||s / |s| - t / |t|||^2`, which is 2 - 2 cos(s, t).

    student, teacher (B, d): embeddings of equal width. Reimers, Gurevych 2020, arXiv 2004.09813, equation 1, on
    embeddings of length 1, as those of MiniLM for sentences.
    """
    difference = F.normalize(student, dim=1) - F.normalize(teacher, dim=1)
    return difference.pow(2).sum(dim=1).mean()


class SimilarityPreserving(FeatureLoss):
    """`similarity_preserving` of the last features."""

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """Return a scalar in float32."""
        ours, theirs = (without_padding(list(seen.features.values())[-1], seen.mask) for seen in (student, teacher))
        return similarity_preserving(ours, theirs.detach())


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """`||G_teacher - G_student||_F^2 / B^2`; G holds the inner products of the batch, with rows of length 1.

    student (B, ...), teacher (B, ...): features of any shapes. Tung, Mori 2019, arXiv 1907.09682, equations 2-4.
    """
    return F.mse_loss(_similarities(student), _similarities(teacher))


def _similarities(features: Tensor) -> Tensor:
    flat = features.float().flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


class Fitnet(FeatureLoss):
    """FitNets hint: mean over all elements of `(teacher - r(student))^2` at the middle stage of each network.

    r is a 1x1 convolution with batch normalisation and ReLU from the student's channels to the teacher's. If the grids
    differ, the larger is averaged. Romero et al. 2015, arXiv 1412.6550, equation 3; the paper sums over channels and
    positions and halves, which is a factor of the weight.
    """

    def __init__(self, student: Observation, teacher: Observation) -> None:
        super().__init__(student, teacher)
        self.guided, self.hint = _middle_stage(student), _middle_stage(teacher)
        self.of_teacher = (self.hint,)
        inputs, outputs = student.features[self.guided].shape[1], teacher.features[self.hint].shape[1]
        self.regressor = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """Return a scalar in float32."""
        guided, hint = same_size(student.features[self.guided].float(), teacher.features[self.hint].detach().float())
        return F.mse_loss(cast(Tensor, self.regressor(guided)).float(), hint)


def _middle_stage(observation: Observation) -> str:
    names = stages(observation.features)
    return names[(len(names) + 1) // 2 - 1]


class AttentionTransfer(FeatureLoss):
    """Sum over pairs of stages of the mean over (B, h w) of `(Q_student - Q_teacher)^2`.

    Q is the map of `attention`. Zagoruyko, Komodakis 2017, arXiv 1612.03928; the square is the released code's, and the
    paper's equation 2 has the norm itself.
    """

    def __init__(self, student: Observation, teacher: Observation) -> None:
        super().__init__(student, teacher)
        self.pairs = by_relative_depth(stages(student.features), stages(teacher.features))
        self.of_teacher = tuple(theirs for _, theirs in self.pairs)

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """Return a scalar in float32."""
        maps = [same_size(student.features[ours], teacher.features[theirs].detach()) for ours, theirs in self.pairs]
        return sum(
            (F.mse_loss(attention(first), attention(second)) for first, second in maps), start=maps[0][0].new_zeros(())
        )


def attention(maps: Tensor) -> Tensor:
    """`Q = normalize(vec(mean_c maps^2))`: (B, c, h, w) to (B, h w), each row of length 1."""
    return F.normalize(maps.float().pow(2).mean(dim=1).flatten(1), dim=1)
