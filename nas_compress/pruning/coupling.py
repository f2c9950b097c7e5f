"""Walk from one layer to all layers whose channels can only be removed with its own.

torch-pruning's graph gives the dependencies and index maps. Its own walk may not end if a map sends many channels to
one, as in a gate over all channels, and it continues through layers that lack some of the channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch_pruning
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch_pruning._helpers import GroupItem, _HybridIndex

Units = tuple[tuple[int, ...], ...]
"""Channels of each unit."""


def widest(graph: Any) -> int:
    """Return the largest number of inputs or outputs of a layer."""
    sizes = [
        size
        for module in graph.module2node
        if isinstance(module, _ConvNd | nn.Linear)
        for size in (graph.get_in_channels(module), graph.get_out_channels(module))
    ]
    return max(sizes, default=0)


def coupled_group(graph: Any, module: nn.Module, handler: Any, channels: int, *, limit: int) -> tuple[Any, Units]:
    """Return a group of torch-pruning, and its channels in sets that meet in one place.

    graph: with its index maps. handler: removes `channels` channels of `module`, the root.
    limit: largest number of channels anywhere; maps around a circle may count further without end.
    """
    if isinstance(module, _ConvNd) and module.groups == module.out_channels > 1:
        handler = torch_pruning.prune_depthwise_conv_out_channels
    root = graph.module2node[module]
    seen: dict[tuple[Any, Any], dict[int, int]] = {}
    members: dict[tuple[Any, Any], Any] = {}
    joined = list(range(channels))
    first = torch_pruning.dependency.Dependency(handler, handler, source=root, target=root)
    stack = [(first, [_HybridIndex(idx=index, root_idx=index) for index in range(channels)])]
    while stack:
        dependency, indices = stack.pop()
        if max(index.idx for index in indices) >= limit or not _has_all(dependency, indices, channels):
            continue
        place = dependency.target, dependency.handler
        known, new = seen.setdefault(place, {}), []
        for index in indices:
            if index.idx not in known:
                known[index.idx] = index.root_idx
                new.append(index)
            else:
                _join(joined, known[index.idx], index.root_idx)
        if not new:
            continue
        members.setdefault(place, dependency)
        for following in dependency.target.dependencies:
            if following.is_triggered_by(dependency.handler):
                mapped = new
                for mapping in following.index_mapping:
                    mapped = mapping(mapped) if mapping is not None else mapped
                if mapped:
                    stack.append((following, mapped))
    group = torch_pruning.dependency.Group()
    group._DG = graph
    for place, dependency in members.items():
        item = GroupItem(dep=dependency, idxs=list(seen[place]))
        item.root_idxs = list(seen[place].values())
        group._group.append(item)
    return group, _components(joined)


def _has_all(dependency: Any, indices: Sequence[Any], channels: int) -> bool:
    """Return True if the indices exist in the dependency's layer, which is no gate of 1 channel for many.

    A bare parameter takes the one dimension that fits.
    """
    module, pruner, node = dependency.target.module, dependency.handler.__self__, dependency.target
    if any(index.root_idx is None for index in indices):
        return False
    if isinstance(module, torch_pruning.ops._OutputOp):
        return True
    largest = max(index.idx for index in indices)
    if isinstance(module, nn.Parameter) and module.shape[node.pruning_dim] <= largest:
        fitting = [dim for dim, size in enumerate(module.shape) if size == len(indices)]
        if len(fitting) == 1:
            node.pruning_dim = fitting[0]
    pruner.pruning_dim = node.pruning_dim
    outputs = dependency.handler.__name__ == "prune_out_channels"
    size = pruner.get_out_channels(module) if outputs else pruner.get_in_channels(module)
    return size is None or largest < size > min(1, channels - 1)


def _join(joined: list[int], first: int, second: int) -> None:
    first, second = _leader(joined, first), _leader(joined, second)
    joined[max(first, second)] = min(first, second)


def _leader(joined: list[int], channel: int) -> int:
    while joined[channel] != channel:
        joined[channel] = joined[joined[channel]]
        channel = joined[channel]
    return channel


def _components(joined: list[int]) -> Units:
    """Return the joined sets, or single channels if the sets differ in size."""
    sets: dict[int, list[int]] = {}
    for channel in range(len(joined)):
        sets.setdefault(_leader(joined, channel), []).append(channel)
    if len({len(members) for members in sets.values()}) > 1 or len(sets) == 1:
        return tuple((channel,) for channel in range(len(joined)))
    return tuple(tuple(members) for members in sets.values())
