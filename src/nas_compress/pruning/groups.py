"""The channel groups of a trained network and how much each channel matters, by torch-pruning's tracing and scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning
from numpy.typing import NDArray
from torch import nn

from nas_compress.errors import RequestError, require_known

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
    """A way to rank channels. `magnitude` scores are comparable across layers: divided by their group's mean."""

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
        magnitude=lambda: torch_pruning.importance.BNScaleImportance(normalizer="mean"),
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
    """Every group of the network with its channels' importance. The classifier's outputs are left alone."""
    require_known("a pruning criterion", criterion, CRITERIA)
    score = CRITERIA[criterion].magnitude
    random = np.random.default_rng(seed)
    groups = []
    for layers, group in _trace(network, sample_shape):
        channels = _channels(network, layers[0])
        if criterion == "random":
            importance = random.random(channels)
        elif score is None:
            importance = (np.arange(channels) + 0.5) / channels
        else:
            importance = _scored(score(), group, layers, criterion)
        groups.append((layers, importance))
    order = {name: number for number, (name, _) in enumerate(network.named_modules())}
    groups.sort(key=lambda item: min(order[layer] for layer in item[0]))
    last = max(1, len(groups) - 1)
    return tuple(
        ChannelGroup(layers=layers, position=number / last, importance=importance)
        for number, (layers, importance) in enumerate(groups)
    )


def surviving_fractions(groups: tuple[ChannelGroup, ...], ratio: float) -> tuple[float, ...]:
    """Remove the `ratio` least important channels over all groups together; the fraction that each group keeps."""
    if not 0 <= ratio < 1:
        raise RequestError(f"0 <= pruning_ratio < 1 must hold, but got pruning_ratio={ratio}")
    scores = np.concatenate([group.importance for group in groups])
    removed = np.zeros(len(scores), dtype=bool)
    removed[np.argsort(scores, kind="stable")[: round(ratio * len(scores))]] = True
    parts = np.split(removed, np.cumsum([len(group.importance) for group in groups])[:-1])
    return tuple(float(1 - part.mean()) for part in parts)


def _trace(network: nn.Module, sample_shape: tuple[int, int, int]) -> list[tuple[tuple[str, ...], Any]]:
    names = {module: name for name, module in network.named_modules()}
    device = next(network.parameters()).device
    sample = torch.zeros((1, *sample_shape), dtype=torch.uint8, device=device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            graph = torch_pruning.DependencyGraph().build_dependency(network, example_inputs=sample)
            found = list(graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]))
        except Exception as error:
            raise RequestError(
                f"the teacher must be traceable for its vote, but torch-pruning raised {type(error).__name__}: {error}"
            ) from error
    classifier = _classifier(network)
    traced = []
    for group in found:
        layers = tuple(
            names[item.dep.target.module]
            for item in group
            if item.dep.target.module in names and _cuts_outputs(item.dep)
        )
        if layers and classifier not in layers:
            traced.append((layers, group))
    return traced


def _cuts_outputs(dependency: Any) -> bool:
    module = dependency.target.module
    handler = torch_pruning.prune_conv_out_channels, torch_pruning.prune_linear_out_channels
    depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
    return isinstance(module, (nn.Conv2d, nn.Linear)) and (dependency.handler in handler or depthwise)


def _classifier(network: nn.Module) -> str:
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return str(names[-1]) if names else ""


def _channels(network: nn.Module, layer: str) -> int:
    module = network.get_submodule(layer)
    return int(module.out_channels if isinstance(module, nn.Conv2d) else module.out_features)  # type: ignore[arg-type]


def _scored(score: Score, group: Any, layers: tuple[str, ...], criterion: str) -> NDArray[np.float64]:
    importance = score(group)
    if importance is None:
        raise RequestError(
            f"criterion {criterion!r} needs batch normalisation, but the group of layer {layers[0]} has none"
        )
    return importance.detach().double().cpu().numpy()
