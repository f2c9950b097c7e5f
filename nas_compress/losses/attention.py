"""Losses of transformers: tokens (B, L, d), and queries, keys and values (B, heads, L, head width)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.losses.layer_matching import by_relative_depth, common_tokens, stages
from nas_compress.losses.term_kinds import FeatureLoss
from nas_compress.models.features import Observation, Relations


class TokenLoss(FeatureLoss):
    """Mean over pairs of layers of `mean((norm(H_student W) - norm(H_teacher))^2)` over batch, tokens and width.

    pairs: names of the student's and the teacher's layers; each pair has its own projection W. loss: name for errors.
    norm is layer normalisation without parameters, because raw hidden states differ in scale by orders of magnitude.
    Jiao et al. 2020, arXiv 1909.10351, equations 8-9.
    """

    def __init__(self, student: Observation, teacher: Observation, pairs: list[tuple[str, str]], loss: str) -> None:
        super().__init__(student, teacher)
        self.pairs, self.tokens = pairs, common_tokens(student, teacher, loss)
        self.projections = nn.ModuleList(
            nn.Linear(student.features[ours].shape[2], teacher.features[theirs].shape[2], bias=False)
            for ours, theirs in pairs
        )

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """Return a scalar in float32."""
        losses = []
        for (ours, theirs), project in zip(self.pairs, self.projections, strict=True):
            seen = student.features[ours][:, -self.tokens :].float()
            target = teacher.features[theirs][:, -self.tokens :].detach().float()
            losses.append(F.mse_loss(_norm(cast(Tensor, project(seen)).float()), _norm(target)))
        return torch.stack(losses).mean()


class HiddenState(TokenLoss):
    """`TokenLoss` of every layer of the student, paired by relative depth."""

    def __init__(self, student: Observation, teacher: Observation) -> None:
        pairs = by_relative_depth(stages(student.features), stages(teacher.features))
        super().__init__(student, teacher, pairs, "hidden_state")


class Embedding(TokenLoss):
    """`TokenLoss` of the embedding layers; RequestError if a network has no feature `embedding`."""

    def __init__(self, student: Observation, teacher: Observation) -> None:
        for seen, role in ((student, "student"), (teacher, "teacher")):
            if "embedding" not in seen.features:
                raise RequestError(
                    f"loss 'embedding' needs a {role} that shows a module 'embedding', "
                    f"but it shows {', '.join(seen.features)}"
                )
        super().__init__(student, teacher, [("embedding", "embedding")], "embedding")


def _norm(values: Tensor) -> Tensor:
    return F.layer_norm(values, values.shape[-1:])


class AttentionMatrix(FeatureLoss):
    """Mean over pairs of layers of the mean squared difference of attention scores, before softmax.

    RequestError if the numbers of heads differ. Jiao et al. 2020, arXiv 1909.10351, equation 7.
    """

    def __init__(self, student: Observation, teacher: Observation) -> None:
        super().__init__(student, teacher)
        heads = [next(iter(seen.relations.values()))[0].shape[1] for seen in (student, teacher)]
        if heads[0] != heads[1]:
            raise RequestError(
                "loss 'attention_matrix' needs a student with as many heads as the teacher, "
                f"but got {heads[0]} and {heads[1]}; minilm_relations needs no equal heads"
            )
        self.pairs = by_relative_depth(list(student.relations), list(teacher.relations))
        self.tokens = common_tokens(student, teacher, "attention_matrix")

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """Return a scalar in float32."""
        losses = [
            F.mse_loss(self._scores(student.relations[ours]), self._scores(teacher.relations[theirs]).detach())
            for ours, theirs in self.pairs
        ]
        return torch.stack(losses).mean()

    def _scores(self, relations: Relations) -> Tensor:
        queries, keys = relations[0][:, :, -self.tokens :].float(), relations[1][:, :, -self.tokens :].float()
        scores: Tensor = queries @ keys.transpose(2, 3) * queries.shape[3] ** -0.5
        return scores


class MinilmRelations(FeatureLoss):
    """`minilm_relations`, summed over queries, keys and values of the last layers.

    RequestError if a width is no multiple of `relation_heads`, a whole number.
    """

    def __init__(self, student: Observation, teacher: Observation, *, relation_heads: float) -> None:
        super().__init__(student, teacher)
        self.heads, self.tokens = int(relation_heads), common_tokens(student, teacher, "minilm_relations")
        for seen, role in ((student, "student"), (teacher, "teacher")):
            _, count, _, size = _last_relations(seen)[0].shape
            if count * size % self.heads:
                raise RequestError(
                    "relation_heads of loss 'minilm_relations' must divide the attention's width, "
                    f"but got {self.heads} and the {role}'s {count * size}"
                )

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """Return a scalar in float32."""
        pairs = zip(_last_relations(student), _last_relations(teacher), strict=True)
        losses = [
            minilm_relations(ours[:, :, -self.tokens :], theirs[:, :, -self.tokens :].detach(), heads=self.heads)
            for ours, theirs in pairs
        ]
        return torch.stack(losses).sum()


def minilm_relations(student: Tensor, teacher: Tensor, *, heads: int) -> Tensor:
    """Mean over batch, relation heads and tokens of `KL(R_teacher || R_student)`, `R = softmax(X X^T / sqrt(d_r))`.

    student (B, h, L, d), teacher (B, k, L, e): queries, keys or values. Both are split again into `heads` relation
    heads of d_r channels, so heads and widths may differ. Wang et al. 2021, arXiv 2012.15828, equations 4-6.
    """
    ours, theirs = _relations(student, heads), _relations(teacher, heads)
    return F.kl_div(ours, theirs, reduction="sum", log_target=True) / ours[..., 0].numel()


def _relations(vectors: Tensor, heads: int) -> Tensor:
    """Log-probabilities (B, heads, L, L)."""
    batch, count, tokens, size = vectors.shape
    joined = vectors.float().transpose(1, 2).reshape(batch, tokens, count * size)
    split = joined.view(batch, tokens, heads, -1).transpose(1, 2)
    return F.log_softmax(split @ split.transpose(2, 3) * split.shape[3] ** -0.5, dim=3)


def _last_relations(observation: Observation) -> Relations:
    return observation.relations[list(observation.relations)[-1]]
