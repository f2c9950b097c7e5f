"""The channel groups of a trained network and how much each channel matters, by torch-pruning's tracing and scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning
from numpy.typing import NDArray
from torch import nn

from nas_compress.errors import RequestError, describe, require_known

Score = Callable[[Any], "torch.Tensor | None"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelGroup:
    """Layers whose output channels can only go together, and one importance per channel (float64, any scale).

    `position` is the place of the first of them in forward order, from 0 (input) to 1 (output).
    """

    layers: tuple[str, ...]
    position: float
    importance: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A way to rank channels; `magnitude` makes scores that compare across layers.

    Sums of weights do so once they are divided by their group's mean, scales of batch normalisation as they are.
    """

    summary: str
    source: str
    magnitude: Callable[[], Score] | None = None


CRITERIA: Mapping[str, Criterion] = {
    "l1": Criterion(
        summary="sum of absolute weights of a channel over its group",
        source="Li et al. 2017, arXiv 1608.08710",
        magnitude=lambda: torch_pruning.importance.GroupMagnitudeImportance(p=1, normalizer="mean"),
    ),
    "bn_scale": Criterion(
        summary="absolute scale of the channel's batch normalisation",
        source="Liu et al. 2017, arXiv 1708.06519",
        magnitude=lambda: torch_pruning.importance.BNScaleImportance(normalizer=None),
    ),
    "random": Criterion(summary="chance, by the trial's seed: the control of every criterion", source=""),
    "uniform": Criterion(
        summary="the same fraction of every layer: what a width multiplier does",
        source="Crowley et al. 2018, arXiv 1810.04622",
    ),
}


def rank_channels(
    network: nn.Module, sample_shape: tuple[int, int, int], *, criterion: str, seed: int
) -> tuple[ChannelGroup, ...]:
    """Every group of the network with its channels' importance. The layer that runs last, the classifier, stays whole.

    sample_shape: (C, H, W) of a uint8 sample. `network` stays as it is. RequestError where torch-pruning cannot follow
    it from layer to layer, or the criterion asks for what it does not have.
    """
    require_known("a pruning criterion", criterion, CRITERIA)
    score = CRITERIA[criterion].magnitude
    random = np.random.default_rng(seed)
    traced = _traced(network, sample_shape)
    last = max(1, len(traced) - 1)
    groups = []
    for number, (layers, channels, group) in enumerate(traced):
        if criterion == "random":
            importance = random.random(channels)
        elif score is None:
            importance = (np.arange(channels) + 0.5) / channels
        else:
            importance = _scored(score(), group, layers, criterion)
        groups.append(ChannelGroup(layers=layers, position=number / last, importance=importance))
    return tuple(groups)


def surviving_fractions(groups: tuple[ChannelGroup, ...], ratio: float) -> tuple[float, ...]:
    """Remove the `ratio` least important channels over all groups together; the fraction that each group keeps."""
    if not 0 <= ratio < 1:
        raise RequestError(f"0 <= pruning_ratio < 1 must hold, but got pruning_ratio={ratio}")
    scores = np.concatenate([group.importance for group in groups])
    removed = np.zeros(len(scores), dtype=bool)
    removed[np.argsort(scores, kind="stable")[: round(ratio * len(scores))]] = True
    parts = np.split(removed, np.cumsum([len(group.importance) for group in groups])[:-1])
    return tuple(float(1 - part.mean()) for part in parts)


def _traced(network: nn.Module, sample_shape: tuple[int, int, int]) -> list[tuple[tuple[str, ...], int, Any]]:
    """The layers, channels and torch-pruning group of every group, in forward order."""
    # A copy: tracing follows gradients, which a frozen network has none of, and leaves its mode changed.
    copy = deepcopy(network).cpu().eval().requires_grad_(True)
    sample = torch.zeros((1, *sample_shape), dtype=torch.uint8)
    names = {module: name for name, module in copy.named_modules()}
    called: list[str] = []
    try:
        with _quiet(), _recorded(copy, called):
            graph = torch_pruning.DependencyGraph().build_dependency(copy, example_inputs=sample)
            found = list(graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]))
    except Exception as error:
        raise RequestError(
            f"the teacher must be traceable for its vote, but torch-pruning raised {describe(error)}"
        ) from error
    order = {name: number for number, name in enumerate(dict.fromkeys(called))}
    traced = []
    for group in found:
        layers = [names[item.dep.target.module] for item in group if _cuts_outputs(item.dep)]
        ordered = tuple(sorted(set(layers), key=order.__getitem__))
        if ordered and called[-1] not in ordered:
            traced.append((ordered, _channels(copy, layers[0]), group))
    if not traced:
        raise RequestError("the teacher must be traceable for its vote, but torch-pruning found no channels to remove")
    return sorted(traced, key=lambda item: order[item[0][0]])


@contextmanager
def _recorded(network: nn.Module, called: list[str]) -> Iterator[None]:
    """Note the paths of convolutions and linear layers as they run."""
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    hooks = [
        module.register_forward_hook(lambda _, inputs, output, name=name: called.append(name))
        for name, module in layers
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        yield


def _cuts_outputs(dependency: Any) -> bool:
    module = dependency.target.module
    handler = torch_pruning.prune_conv_out_channels, torch_pruning.prune_linear_out_channels
    depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
    return isinstance(module, (nn.Conv2d, nn.Linear)) and (dependency.handler in handler or depthwise)


def _channels(network: nn.Module, layer: str) -> int:
    module = network.get_submodule(layer)
    return int(module.out_channels if isinstance(module, nn.Conv2d) else module.out_features)  # type: ignore[arg-type]


def _scored(score: Score, group: Any, layers: tuple[str, ...], criterion: str) -> NDArray[np.float64]:
    importance = score(group)
    if importance is None:
        raise RequestError(
            f"criterion {criterion!r} needs batch normalisation, but the group of layer {layers[0]} has none"
        )
    # a group whose weights are all 0 has no mean to divide by
    scores: NDArray[np.float64] = importance.detach().double().nan_to_num(nan=0.0).numpy()
    return scores
