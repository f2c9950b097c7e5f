"""Attention transfer (Zagoruyko, Komodakis 2017, arXiv 1612.03928): where in the image each stage is active."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from nas_compress.losses.layer_matching import by_relative_depth, same_size, stages
from nas_compress.losses.term import FeatureLoss
from nas_compress.models.features import Observation


class AttentionTransfer(FeatureLoss):
    """Sum over pairs of stages of the mean over (B, h w) of `(Q_student - Q_teacher)^2`.

    This is the released code's square; the paper's equation 2 has the norm itself.
    """

    def __init__(self, student: Observation, teacher: Observation) -> None:
        super().__init__()
        self.pairs = by_relative_depth(stages(student.features), stages(teacher.features))

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """A scalar in float32."""
        return sum_of_squares(
            [(student.features[ours], teacher.features[theirs].detach()) for ours, theirs in self.pairs]
        )


def sum_of_squares(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The loss of pairs of maps (B, c, h, w)."""
    maps = [same_size(*pair) for pair in pairs]
    return sum(
        (F.mse_loss(attention(first), attention(second)) for first, second in maps), start=maps[0][0].new_zeros(())
    )


def attention(maps: Tensor) -> Tensor:
    """`Q = normalize(vec(mean_c maps^2))`: (B, c, h, w) to (B, h w), each row of length 1."""
    return F.normalize(maps.float().pow(2).mean(dim=1).flatten(1), dim=1)
