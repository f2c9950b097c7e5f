"""Joint training of a network and its early exits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.models.exits.network import ExitHead
from nas_compress.models.features import ObservableNetwork, Observation
from nas_compress.tasks.batch import Batch, device_of
from nas_compress.tasks.task import Task
from nas_compress.training.objective import TrainingObjective, observe
from nas_compress.training.precision import mixed_precision
from nas_compress.values.exits.settings import Exits


class ExitsObjective:
    """An objective with the terms `exit0`, `exit1`, ...: the loss of each exit times its weight.

    The losses of the exits train the network as well (Teerapittayanon et al. 2016, arXiv 1709.01686, section III).

    heads: classifiers of the exits, which learn together with the network.
    """

    def __init__(self, objective: TrainingObjective, heads: Sequence[ExitHead], exits: Exits, task: Task) -> None:
        self._objective, self._heads, self._exits, self._task = objective, list(heads), exits, task

    @property
    def learners(self) -> Sequence[nn.Module]:
        """The learners of the objective itself, and the exits."""
        return [*self._objective.learners, *self._heads]

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Batch, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Return the terms of a batch; see `TrainingObjective`."""
        recorder = _Recorder(model, self._task)
        terms = self._objective(recorder, batch, targets, view=view, index=index, progress=progress)
        seen = recorder.seen
        with mixed_precision(device_of(batch)):
            answers = [
                head(seen.features[name], seen.mask) for head, name in zip(self._heads, self._exits.after, strict=True)
            ]
        weights = self._exits.loss_weights
        losses = [
            weight * self._loss(each.float(), seen, targets) for weight, each in zip(weights, answers, strict=True)
        ]
        return {**terms, **{f"exit{number}": loss for number, loss in enumerate(losses)}}

    def _loss(self, answers: Tensor, seen: Observation, targets: Batch) -> Tensor:
        if self._exits.target == "last_exit":
            return F.cross_entropy(answers, self._task.logits(seen.outputs).detach().float().softmax(1))
        if self._exits.confidence == "hinge":
            labels = self._task.labels(targets)
            if self._task.lacks_labels:
                known = self._task.labelled(targets)
                if not bool(known.any()):
                    return answers.sum() * 0.0
                answers, labels = answers[known], labels[known]
            return one_vs_rest_hinge(answers, labels)
        return self._task.base_loss({self._task.signature.output_names[0]: answers}, targets)


def one_vs_rest_hinge(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared hinge loss of each class against the rest.

    scores: (N, K). targets: classes (N,), or probabilities (N, K) of mixed samples.

    >>> import torch
    >>> float(one_vs_rest_hinge(torch.tensor([[1.0, 0.0]]), torch.tensor([0])))
    0.5
    """
    shares = targets if targets.ndim == 2 else F.one_hot(targets, scores.shape[1])
    own, other = (1 - scores).clamp_min(0).square(), (1 + scores).clamp_min(0).square()
    return (shares * own + (1 - shares) * other).mean()


class _Recorder(ObservableNetwork):
    """A network that keeps its last observation."""

    seen: Observation

    def __init__(self, network: nn.Module, task: Task) -> None:
        super().__init__()
        self._network, self._task = network, task

    def observe(self, *inputs: Tensor, relations: bool = False) -> Observation:
        """Run the network on its inputs in order."""
        batch: dict[str, Any] = dict(zip(self._task.signature.input_names, inputs, strict=True))
        self.seen = observe(self._network, batch, self._task, relations=relations)
        return self.seen
