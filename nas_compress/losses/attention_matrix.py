"""Attention matrices of transformers (Jiao et al. 2020, arXiv 1909.10351, equation 7)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.losses.layer_matching import by_relative_depth, common_tokens
from nas_compress.losses.term import FeatureLoss
from nas_compress.models.features import Observation, Relations


class AttentionMatrix(FeatureLoss):
    """Mean over pairs of layers of the mean squared difference of attention scores, before softmax.

    The two need equally many heads; RequestError where they have not.
    """

    def __init__(self, student: Observation, teacher: Observation) -> None:
        super().__init__()
        heads = [next(iter(seen.relations.values()))[0].shape[1] for seen in (student, teacher)]
        if heads[0] != heads[1]:
            raise RequestError(
                "loss 'attention_matrix' needs a student with as many heads as the teacher, "
                f"but got {heads[0]} and {heads[1]}; minilm_relations needs no equal heads"
            )
        self.pairs = by_relative_depth(list(student.relations), list(teacher.relations))
        self.tokens = common_tokens(student, teacher, "attention_matrix")

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """A scalar in float32."""
        losses = [
            F.mse_loss(self._scores(student.relations[ours]), self._scores(teacher.relations[theirs]).detach())
            for ours, theirs in self.pairs
        ]
        return torch.stack(losses).mean()

    def _scores(self, relations: Relations) -> Tensor:
        queries, keys = relations[0][:, :, -self.tokens :].float(), relations[1][:, :, -self.tokens :].float()
        scores: Tensor = queries @ keys.transpose(2, 3) * queries.shape[3] ** -0.5
        return scores
