"""MiniLMv2's relations (Wang et al. 2021, arXiv 2012.15828, equations 4-6), for any heads and widths."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.losses.layer_matching import common_tokens
from nas_compress.losses.term import FeatureLoss
from nas_compress.models.features import Observation


class MinilmRelations(FeatureLoss):
    """`minilm_relations`, summed over queries, keys and values of the last layers.

    RequestError where a width is no multiple of `heads`.
    """

    def __init__(self, student: Observation, teacher: Observation, *, heads: int) -> None:
        super().__init__()
        self.heads, self.tokens = heads, common_tokens(student, teacher, "minilm_relations")
        for seen, who in ((student, "student"), (teacher, "teacher")):
            _, count, _, size = _last(seen)[0].shape
            if count * size % heads:
                raise RequestError(
                    "relation_heads of loss 'minilm_relations' must divide the attention's width, "
                    f"but got {heads} and the {who}'s {count * size}"
                )

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """A scalar in float32."""
        pairs = zip(_last(student), _last(teacher), strict=True)
        losses = [
            minilm_relations(ours[:, :, -self.tokens :], theirs[:, :, -self.tokens :].detach(), heads=self.heads)
            for ours, theirs in pairs
        ]
        return torch.stack(losses).sum()


def minilm_relations(student: Tensor, teacher: Tensor, *, heads: int) -> Tensor:
    """Mean over batch, relation heads and tokens of `KL(R_teacher || R_student)`, `R = softmax(X X^T / sqrt(d_r))`.

    student (B, h, L, d), teacher (B, k, L, e): queries, keys or values; both are cut anew into `heads` relation heads
    of d_r channels.
    """
    ours, theirs = _relations(student, heads), _relations(teacher, heads)
    return F.kl_div(ours, theirs, reduction="sum", log_target=True) / ours[..., 0].numel()


def _relations(vectors: Tensor, heads: int) -> Tensor:
    """Log-probabilities (B, heads, L, L)."""
    batch, count, tokens, size = vectors.shape
    joined = vectors.float().transpose(1, 2).reshape(batch, tokens, count * size)
    cut = joined.view(batch, tokens, heads, -1).transpose(1, 2)
    return F.log_softmax(cut @ cut.transpose(2, 3) * cut.shape[3] ** -0.5, dim=3)


def _last(observation: Observation) -> tuple[Tensor, Tensor, Tensor]:
    return observation.relations[list(observation.relations)[-1]]
