"""Removal of channels with their weights, by dependency groups (Fang et al. 2023, arXiv 2301.12900)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from nas_compress.errors import RequestError
from nas_compress.pruning.channel_groups import ChannelGroup, TracedGroup, trace_groups
from nas_compress.pruning.removal import Chosen, failure_of, restored
from nas_compress.tasks.batch import Batch

Keep = Callable[[TracedGroup], "Sequence[int] | None"]
"""From a group to the numbers of the units to keep; None for all."""


def cut_network(network: nn.Module, example: Batch, keep: Keep) -> nn.Module:
    """Return a copy of the network on the CPU, in eval mode, with the kept units of each group.

    Units keep their order, and attributes with numbers of heads are updated.

    example: inputs of two or more samples.
    RequestError names the layer that cannot be cut.
    """
    copy, traced = trace_groups(network, example)
    kept = [(group, keep(group)) for group in traced]
    chosen = [(group, units) for group, units in kept if units is not None and len(units) < len(group.units)]
    error = failure_of(copy, chosen, example)
    if error:
        raise _refusal(network, example, keep, error)
    return copy


def most_important(groups: Sequence[ChannelGroup], channels: Callable[[ChannelGroup], int]) -> Keep:
    """Keep the most important units of each group, and all of other groups. channels: number of channels to keep.

    RequestError names a layer with fewer channels.
    """
    ranked = {group.layers: group for group in groups}

    def keep(traced: TracedGroup) -> Sequence[int] | None:
        group = ranked.get(traced.layers)
        if group is None:
            return None
        count = channels(group) // group.unit
        if not 1 <= count <= len(group.importance):
            raise RequestError(
                f"a cut layer must keep {group.unit} to {group.channels} channels (the teacher's), "
                f"but {group.layers[0]} was to keep {channels(group)}"
            )
        order = np.argsort(group.importance, kind="stable")
        return sorted(order[len(order) - count :].tolist())

    return keep


def _refusal(network: nn.Module, example: Batch, keep: Keep, error: str) -> RequestError:
    """Name the first layer whose group breaks the network if cut alone, or all cut layers if none does."""
    copy, traced = trace_groups(network, example)
    cut: list[str] = []
    for group in traced:
        units = keep(group)
        if units is None or len(units) == len(group.units):
            continue
        cut.append(group.layers[0])
        alone: Chosen = [(group, units)]
        with restored(copy):
            reason = failure_of(copy, alone, example)
        if reason:
            return RequestError(
                f"a layer must be one that torch-pruning can cut, but {group.layers[0]} is not: {reason}"
            )
    return RequestError(
        f"layers must be ones that torch-pruning can cut together, but {', '.join(cut)} are not: {error}"
    )
