"""Table of criteria for the importance of channels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_pruning import importance

from nas_compress.errors import RequestError, describe, require_known
from nas_compress.models.onednn_workaround import safe_backward
from nas_compress.pruning.channel_groups import ChannelGroup, TracedGroup, cuts_outputs, trace_groups
from nas_compress.pruning.removal import shortened
from nas_compress.tasks.batch import Batch, named_outputs, to_device
from nas_compress.tasks.task import Task

Score = Callable[[Any], "Tensor | None"]
"""From torch-pruning's group to one importance per channel; None if the criterion does not apply."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LossSamples:
    """Training batches with the task's loss on them. batches: inputs and targets."""

    task: Task
    batches: Sequence[tuple[Batch, Batch]]

    def loss(self, network: nn.Module, inputs: Batch, targets: Batch) -> Tensor:
        """Return the mean loss of one batch."""
        outputs = named_outputs(network(*inputs.values()), self.task.signature.output_names)
        return self.task.base_loss(outputs, targets)


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A criterion for the importance of channels.

    score: makes a function for scores that compare across layers; None for criteria without weights. Sums of weights
    are divided by their group's mean. Scales of batch normalisation and changes of the loss compare directly.
    needs_gradients: the score is computed from each batch's gradients, squared and averaged.
    """

    summary: str
    source: str
    score: Callable[[], Score] | None = None
    needs_gradients: bool = False


def geometric_median(group: Any) -> Tensor | None:
    """Sum of a filter's distances to its layer's other filters, summed over the group, divided by the mean.

    He et al. 2019, arXiv 1811.00250, equation 6. torch-pruning's own criterion compares absolute
    weights, so a filter and its negative have distance 0.
    """
    total = torch.zeros(len(group[0].idxs))
    for item in group:
        if cuts_outputs(item.dep):
            layer = item.dep.target.module
            weight = layer.weight.detach()
            filters = (weight.transpose(0, 1) if getattr(layer, "transposed", False) else weight)[item.idxs].flatten(1)
            distances = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist").sum(dim=1)
            total.index_add_(0, torch.tensor(item.root_idxs), distances)
    return total / total.mean()


CRITERIA: Mapping[str, Criterion] = {
    "l1": Criterion(
        summary="sum of absolute weights of a channel over its group",
        source="Li et al. 2017, arXiv 1608.08710",
        score=lambda: importance.GroupMagnitudeImportance(p=1, normalizer="mean"),
    ),
    "l2": Criterion(
        summary="sum of squared weights of a channel over its group",
        source="Fang et al. 2023, arXiv 2301.12900",
        score=lambda: importance.GroupMagnitudeImportance(p=2, normalizer="mean"),
    ),
    "bn_scale": Criterion(
        summary="absolute scale of the channel's batch normalisation",
        source="Liu et al. 2017, arXiv 1708.06519",
        score=lambda: importance.BNScaleImportance(normalizer=None),
    ),
    "taylor": Criterion(
        summary="squared first-order change of the loss without the channel, mean over batches",
        source="Molchanov et al. 2019, arXiv 1906.10771",
        score=lambda: importance.GroupTaylorImportance(normalizer=None, multivariable=True, bias=True),
        needs_gradients=True,
    ),
    "fpgm": Criterion(
        summary="distance to the layer's other filters: filters similar to others are removed first",
        source="He et al. 2019, arXiv 1811.00250",
        score=lambda: geometric_median,
    ),
    "lamp": Criterion(
        summary="squared weights divided by those of all channels with at least the same magnitude",
        source="Lee et al. 2021, arXiv 2010.07611",
        score=lambda: importance.LAMPImportance(p=2),
    ),
    "random": Criterion(summary="random order by the trial's seed: a control", source=""),
    "uniform": Criterion(
        summary="the same fraction of every layer, as by a width multiplier",
        source="Crowley et al. 2018, arXiv 1810.04622",
    ),
}


def criterion_named(name: str) -> Criterion:
    """Return a criterion; RequestError for an unknown name."""
    require_known("a pruning criterion", name, CRITERIA)
    return CRITERIA[name]


def rank_channels(
    network: nn.Module,
    example: Batch,
    *,
    criterion: str,
    seed: int,
    samples: LossSamples | None = None,
    whole: Collection[str] = (),
) -> tuple[ChannelGroup, ...]:
    """Return every group of the network with its units' importance, without the classifier (the last layer).

    example: inputs of one or more samples.
    criterion: a name in CRITERIA.
    samples: for the gradients of the loss, if the criterion needs them.
    whole: layers that keep all their channels; their groups are left out.
    RequestError if the name is unknown, the criterion does not apply, torch-pruning cannot trace the network, or no
    group is left.
    """
    copy, found = trace_groups(network, example)
    traced = [group for group in found if not group.problem and not any(layer in whole for layer in group.layers)]
    if not traced:
        names = ", ".join(group.layers[0] for group in found)
        raise RequestError(f"the teacher must have a layer whose channels can be removed, but all stay whole: {names}")
    scores = _scores(copy, traced, criterion, seed, samples)
    last = max(1, len(traced) - 1)
    return tuple(
        ChannelGroup(
            layers=group.layers,
            position=number / last,
            importance=values,
            kind=group.kind,
            unit=group.unit,
            attention=group.attention is not None,
        )
        for number, (group, values) in enumerate(zip(traced, scores, strict=True))
    )


def _scores(
    network: nn.Module, traced: Sequence[TracedGroup], criterion: str, seed: int, samples: LossSamples | None
) -> list[NDArray[np.float64]]:
    chosen = criterion_named(criterion)
    score = chosen.score
    if score is None:
        random = np.random.default_rng(seed)
        sizes = [len(group.units) for group in traced]
        even = criterion != "random"
        return [(np.arange(size) + 0.5) / size if even else random.random(size) for size in sizes]
    if not chosen.needs_gradients:
        return [_scored(score(), group, criterion) for group in traced]
    if samples is None:
        raise RequestError(f"criterion {criterion!r} needs training samples for its gradients, but got none")
    sums = [np.zeros(len(group.units)) for group in traced]
    for inputs, targets in samples.batches:
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        with torch.enable_grad(), safe_backward(network):
            loss = samples.loss(network, to_device(inputs, "cpu"), to_device(targets, "cpu"))
            loss.backward()  # type: ignore[no-untyped-call]
        for total, group in zip(sums, traced, strict=True):
            total += np.square(_scored(score(), group, criterion))
    return [total / len(samples.batches) for total in sums]


def _scored(score: Score, group: TracedGroup, criterion: str) -> NDArray[np.float64]:
    try:
        values = score(group.group)
    except Exception as error:  # torch-pruning may raise anything
        raise RequestError(
            f"criterion {criterion!r} must be able to rank each layer, but {group.layers[0]} is none: "
            f"{shortened(describe(error))}; way out: pruning.keep = [{group.layers[0]!r}]"
        ) from error
    if values is None:
        raise RequestError(
            f"criterion {criterion!r} needs batch normalisation, but the group of layer {group.layers[0]} has none"
        )
    # the mean of a group of zeros is 0
    scores = values.detach().double().nan_to_num(nan=0.0).numpy()
    return np.array([scores[list(unit)].mean() for unit in group.units])
