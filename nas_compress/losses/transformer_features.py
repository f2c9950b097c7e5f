"""Losses of transformers: tokens (B, L, d), and queries, keys and values (B, heads, L, head width)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.losses.layer_matching import CommonTokens, common_tokens, paired, stages
from nas_compress.losses.term_kinds import FeatureLoss
from nas_compress.models.features import Observation, Relations

NO_RELATION = -1e9
"""Score of padding; finite, so that the divergence is."""


class TokenLoss(FeatureLoss):
    """Mean over pairs of layers of `mean((norm(H_student W) - norm(H_teacher))^2)` over batch, tokens and width.

    pairs: names of the student's and the teacher's layers; each pair has its own projection W, at first the identity
    if the widths are equal. loss: name for errors.
    norm is layer normalisation without parameters, because raw hidden states differ in scale by orders of magnitude.
    Jiao et al. 2020, arXiv 1909.10351, equations 8-9.
    """

    def __init__(self, student: Observation, teacher: Observation, pairs: list[tuple[str, str]], loss: str) -> None:
        super().__init__(student, teacher)
        common_tokens(student, teacher, loss)
        self.pairs, self.loss = pairs, loss
        self.of_teacher = tuple(theirs for _, theirs in pairs)
        self.projections = nn.ModuleList(
            _projection(student.features[ours].shape[2], teacher.features[theirs].shape[2]) for ours, theirs in pairs
        )

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """Return a scalar in float32."""
        losses, common = [], common_tokens(student, teacher, self.loss)
        for (ours, theirs), project in zip(self.pairs, self.projections, strict=True):
            seen = student.features[ours][:, common.places].float()
            target = teacher.features[theirs][:, common.places].detach().float()
            losses.append(
                common.mean(F.mse_loss(_norm(cast(Tensor, project(seen)).float()), _norm(target), reduction="none"))
            )
        return torch.stack(losses).mean()


class HiddenState(TokenLoss):
    """`TokenLoss` of layers, paired as `paired` says."""

    def __init__(self, student: Observation, teacher: Observation, *, last_layers: float = 0.0) -> None:
        pairs = paired(stages(student.features), stages(teacher.features), last_layers, "hidden_state")
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


def _projection(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    if inputs == outputs:
        nn.init.eye_(layer.weight)
    return layer


def _norm(values: Tensor) -> Tensor:
    return F.layer_norm(values, values.shape[-1:])


class AttentionMatrix(FeatureLoss):
    """Mean over pairs of layers of the mean squared difference of attention scores, before softmax.

    RequestError if the numbers of heads differ. Jiao et al. 2020, arXiv 1909.10351, equation 7.
    """

    def __init__(self, student: Observation, teacher: Observation, *, last_layers: float = 0.0) -> None:
        super().__init__(student, teacher)
        heads = [next(iter(seen.relations.values()))[0].shape[1] for seen in (student, teacher)]
        if heads[0] != heads[1]:
            raise RequestError(
                "loss 'attention_matrix' needs a student with as many heads as the teacher, "
                f"but got {heads[0]} and {heads[1]}; minilm_relations needs no equal heads"
            )
        self.pairs = paired(list(student.relations), list(teacher.relations), last_layers, "attention_matrix")
        self.relations_of_teacher = tuple(theirs for _, theirs in self.pairs)
        common_tokens(student, teacher, "attention_matrix")

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """Return a scalar in float32."""
        common = common_tokens(student, teacher, "attention_matrix")
        losses = []
        for ours, theirs in self.pairs:
            seen, target = _scores(student.relations[ours], common), _scores(teacher.relations[theirs], common)
            losses.append(common.mean_of_pairs(F.mse_loss(seen, target.detach(), reduction="none")))
        return torch.stack(losses).mean()


def _scores(relations: Relations, common: CommonTokens) -> Tensor:
    queries, keys = (part[:, :, common.places].float() for part in relations[:2])
    scores: Tensor = queries @ keys.transpose(2, 3) * queries.shape[3] ** -0.5
    return scores


class MinilmRelations(FeatureLoss):
    """`minilm_relations`, summed over queries, keys and values of the last layers.

    RequestError if a width is no multiple of `relation_heads`, a whole number.
    """

    def __init__(self, student: Observation, teacher: Observation, *, relation_heads: float) -> None:
        super().__init__(student, teacher)
        common_tokens(student, teacher, "minilm_relations")
        self.heads = int(relation_heads)
        self.relations_of_teacher = tuple(teacher.relations)[-1:]
        for seen, role in ((student, "student"), (teacher, "teacher")):
            _, count, _, size = _last_relations(seen)[0].shape
            if count * size % self.heads:
                raise RequestError(
                    "relation_heads of loss 'minilm_relations' must divide the attention's width, "
                    f"but got {self.heads} and the {role}'s {count * size}"
                )

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """Return a scalar in float32."""
        common = common_tokens(student, teacher, "minilm_relations")
        pairs = zip(_last_relations(student), _last_relations(teacher), strict=True)
        losses = [
            minilm_relations(
                ours[:, :, common.places], theirs[:, :, common.places].detach(), heads=self.heads, mask=common.mask
            )
            for ours, theirs in pairs
        ]
        return torch.stack(losses).sum()


def minilm_relations(student: Tensor, teacher: Tensor, *, heads: int, mask: Tensor | None = None) -> Tensor:
    """Mean over batch, relation heads and tokens of `KL(R_teacher || R_student)`, `R = softmax(X X^T / sqrt(d_r))`.

    student (B, h, L, d), teacher (B, k, L, e): queries, keys or values. Both are split again into `heads` relation
    heads of d_r channels, so heads and widths may differ. mask: bool (B, L), False at padding, which has no relations.
    Wang et al. 2021, arXiv 2012.15828, equations 4-6.
    """
    ours, theirs = _relations(student, heads, mask), _relations(teacher, heads, mask)
    divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=3)
    if mask is None:
        return divergence.mean()
    shares = mask.unsqueeze(1).to(divergence.dtype)
    return (divergence * shares).sum() / (shares.sum() * heads)


def _relations(vectors: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """Log-probabilities (B, heads, L, L)."""
    batch, count, tokens, size = vectors.shape
    joined = vectors.float().transpose(1, 2).reshape(batch, tokens, count * size)
    split = joined.view(batch, tokens, heads, -1).transpose(1, 2)
    scores = split @ split.transpose(2, 3) * split.shape[3] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], NO_RELATION)
    return F.log_softmax(scores, dim=3)


def _last_relations(observation: Observation) -> Relations:
    return observation.relations[list(observation.relations)[-1]]
