"""Deep mutual learning: networks that learn together, each from the others.

Zhang et al. 2018, arXiv 1706.00384.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.features import Observation
from nas_compress.tasks.batch import Batch, device_of
from nas_compress.training.objective import observe
from nas_compress.training.precision import mixed_precision


class MutualObjective:
    """The loss of each network, with the other networks as its teacher; the trained model is the first network.

    peers: the other networks. losses: one per network, the model's first. watched: see `LossObjective`.

    A term on logits reads the other networks as an ensemble: with `kd` at temperature 1 that has the paper's gradient,
    because the mean of divergences to several teachers differs from the divergence to their mean by a constant. A term
    on features reads the first other network. No gradient passes from the loss of a network to another network.
    """

    def __init__(
        self, peers: Sequence[nn.Module], losses: Sequence[TrainingLoss], *, watched: Sequence[str] = ()
    ) -> None:
        self._peers, self._losses, self._watched = list(peers), list(losses), watched

    @property
    def learners(self) -> Sequence[nn.Module]:
        """The peers, and the adaptation layers of every loss."""
        return [*self._peers, *self._losses]

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Batch, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Return the model's terms by name, and `peers`: the sum of the terms of all others."""
        own = self._losses[0]
        relations = own.reads_relations(progress)
        watched = self._watched if own.reads_features(progress) else ()
        with mixed_precision(device_of(batch)):
            seen = [
                observe(network, batch, own.task, relations=relations, watched=watched)
                for network in (model, *self._peers)
            ]
        terms: list[dict[str, Tensor]] = []
        for number, loss in enumerate(self._losses):
            others = seen[:number] + seen[number + 1 :]
            answers = _logits(others, loss) if loss.reads_logits else None
            terms.append(loss(seen[number], targets, others[0], answers=answers, progress=progress))
        return {**terms[0], "peers": torch.stack([value for each in terms[1:] for value in each.values()]).sum()}


def _logits(networks: Sequence[Observation], loss: TrainingLoss) -> Tensor:
    """Logits (B, members, C) of an ensemble, without gradients."""
    return torch.stack([loss.task.logits(each.outputs).detach() for each in networks], dim=1)
