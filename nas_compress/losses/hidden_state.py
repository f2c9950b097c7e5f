"""Hidden states and embeddings of transformers (Jiao et al. 2020, arXiv 1909.10351, equations 8-9)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.losses.layer_matching import by_relative_depth, common_tokens, stages
from nas_compress.losses.term import FeatureLoss
from nas_compress.models.features import Observation


class HiddenState(FeatureLoss):
    """Mean over pairs of layers of `mean((norm(H_student W) - norm(H_teacher))^2)` over batch, tokens and width.

    Pairs by relative depth, with a projection W of their own each. norm is layer normalisation without parameters, as
    raw hidden states differ in scale by orders of magnitude.
    """

    def __init__(self, student: Observation, teacher: Observation, pairs: list[tuple[str, str]], loss: str) -> None:
        super().__init__()
        self.pairs, self.tokens = pairs, common_tokens(student, teacher, loss)
        self.projections = nn.ModuleList(
            nn.Linear(student.features[ours].shape[2], teacher.features[theirs].shape[2], bias=False)
            for ours, theirs in pairs
        )

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """A scalar in float32."""
        losses = []
        for (ours, theirs), project in zip(self.pairs, self.projections, strict=True):
            seen = student.features[ours][:, -self.tokens :].float()
            target = teacher.features[theirs][:, -self.tokens :].detach().float()
            losses.append(F.mse_loss(_norm(cast(Tensor, project(seen)).float()), _norm(target)))
        return torch.stack(losses).mean()


def hidden_states(student: Observation, teacher: Observation) -> HiddenState:
    """The loss over every layer of the student."""
    pairs = by_relative_depth(stages(student.features), stages(teacher.features))
    return HiddenState(student, teacher, pairs, "hidden_state")


def embeddings(student: Observation, teacher: Observation) -> HiddenState:
    """The loss of the embedding layers alone; RequestError where one shows none by that name."""
    for seen, who in ((student, "student"), (teacher, "teacher")):
        if "embedding" not in seen.features:
            raise RequestError(
                f"loss 'embedding' needs a {who} that shows a module 'embedding', "
                f"but it shows {', '.join(seen.features)}"
            )
    return HiddenState(student, teacher, [("embedding", "embedding")], "embedding")


def _norm(values: Tensor) -> Tensor:
    return F.layer_norm(values, values.shape[-1:])
