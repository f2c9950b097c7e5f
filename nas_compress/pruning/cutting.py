"""Removal of channels with their weights, by dependency groups (Fang et al. 2023, arXiv 2301.12900)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from nas_compress.errors import RequestError, describe
from nas_compress.pruning.channel_groups import ChannelGroup, TracedGroup, keep_heads_, trace_groups
from nas_compress.tasks.batch import Batch, rows, to_device

Keep = Callable[[TracedGroup], Sequence[int]]
"""From a group to the numbers of the units to keep."""

Shapes = tuple[tuple[int, ...], ...]
"""Shape of each output."""


def cut_network(network: nn.Module, example: Batch, keep: Keep) -> nn.Module:
    """Return a copy of the network on the CPU, in eval mode, with the kept units of each group.

    Units keep their order, and attributes with numbers of heads are updated.

    example: inputs of two or more samples.
    RequestError names the layer that cannot be cut.
    """
    copy, traced = trace_groups(network, example)
    outputs = _output_shapes(copy, example)
    for number, group in enumerate(traced):
        error = _cut_(copy, group, keep(group)) or _failure(copy, example, outputs, last=number == len(traced) - 1)
        if error:
            culprit = _culprit(network, example, keep) or group.layers[0]
            raise RequestError(f"a layer must be one that torch-pruning can cut, but {culprit} is not: {error}")
    return copy


def most_important(groups: Sequence[ChannelGroup], channels: Callable[[ChannelGroup], int]) -> Keep:
    """Keep the most important units of each group. channels: number of channels to keep.

    RequestError names a layer with fewer channels.
    """
    ranked = {group.layers: group for group in groups}

    def keep(traced: TracedGroup) -> Sequence[int]:
        group = ranked[traced.layers]
        count = channels(group) // group.unit
        if not 1 <= count <= len(group.importance):
            raise RequestError(
                f"a cut layer must keep {group.unit} to {group.channels} channels (the teacher's), "
                f"but {group.layers[0]} was to keep {channels(group)}"
            )
        order = np.argsort(group.importance, kind="stable")
        return sorted(order[len(order) - count :].tolist())

    return keep


def _cut_(network: nn.Module, group: TracedGroup, kept: Sequence[int]) -> str:
    """Cut one group in place; return the error, or an empty text."""
    removed = sorted(set(range(len(group.units))) - set(kept))
    if not removed:
        return ""
    try:
        group.group.prune(idxs=sorted(index for number in removed for index in group.units[number]))
    except Exception as error:  # torch-pruning may raise anything for a user's module
        return describe(error)
    if group.attention is not None:
        attention = network.get_submodule(group.attention)
        before = len(group.units) * group.unit
        keep_heads_(attention, len(kept), before=before, after=len(kept) * group.unit)
    return ""


def _failure(network: nn.Module, example: Batch, outputs: Shapes, *, last: bool) -> str:
    """Run a network after its last cut; return the error, or an empty text."""
    if not last:
        return ""
    try:
        shapes = _output_shapes(network, example)
    except Exception as error:
        return describe(error)
    return "" if shapes == outputs else f"its output is {_shown(shapes)} instead of {_shown(outputs)}"


def _output_shapes(network: nn.Module, example: Batch) -> Shapes:
    with torch.no_grad():
        returned = network(*to_device(rows(example, 0, 2), "cpu").values())
    tensors = [returned] if isinstance(returned, torch.Tensor) else list(returned)
    return tuple(tuple(tensor.shape) for tensor in tensors)


def _shown(shapes: Shapes) -> str:
    return ", ".join(map(str, shapes))


def _culprit(network: nn.Module, example: Batch, keep: Keep) -> str:
    """Return the first layer whose group breaks the network if cut alone."""
    count = len(trace_groups(network, example)[1])
    for number in range(count):
        copy, traced = trace_groups(network, example)
        outputs, group = _output_shapes(copy, example), traced[number]
        if _cut_(copy, group, keep(group)) or _failure(copy, example, outputs, last=True):
            return group.layers[0]
    return ""
