"""Deep mutual learning (Zhang et al. 2018, arXiv 1706.00384): networks that learn together, each from the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.features import Observation
from nas_compress.tasks.batch import Batch, device_of
from nas_compress.training.objective import observe
from nas_compress.training.runtime import mixed_precision


class MutualObjective:
    """Each network's own loss, with the other networks as its teacher; the model that is trained is the first of them.

    peers: the other networks. losses: one per network, the model's first. A term on logits sees the others as an
    ensemble: with `kd` at temperature 1 that has the paper's gradient, as the mean of divergences to several teachers
    differs from the one to their mean by a constant. A term on features looks at the first other network. No gradient
    passes from one network's loss to another network. watched: see `LossObjective`.
    """

    def __init__(
        self, peers: Sequence[nn.Module], losses: Sequence[TrainingLoss], *, watched: Sequence[str] = ()
    ) -> None:
        self._peers, self._losses, self._watched = list(peers), list(losses), watched

    @property
    def learners(self) -> Sequence[nn.Module]:
        """The peers, and every loss's adaptation layers."""
        return [*self._peers, *self._losses]

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Batch, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """The model's terms by name, and `peers`: the sum of all others' terms."""
        relations = self._losses[0].reads_relations(progress)
        watched = self._watched if self._losses[0].reads_features(progress) else ()
        with mixed_precision(device_of(batch)):
            seen = [observe(network, batch, relations=relations, watched=watched) for network in (model, *self._peers)]
        terms = [
            loss(own, targets["label"], _others(seen, number), progress)
            for number, (own, loss) in enumerate(zip(seen, self._losses, strict=True))
        ]
        return {**terms[0], "peers": torch.stack([value for each in terms[1:] for value in each.values()]).sum()}


def _others(seen: Sequence[Observation], number: int) -> Observation:
    others = [other for place, other in enumerate(seen) if place != number]
    return Observation(
        logits=torch.stack([other.answer.detach() for other in others], dim=1),
        features=others[0].features,
        relations=others[0].relations,
        patches=others[0].patches,
    )
