"""Removal of channels with their weights, by dependency groups (Fang et al. 2023, arXiv 2301.12900)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from nas_compress.errors import RequestError, describe
from nas_compress.pruning.channel_groups import ChannelGroup, TracedGroup, keep_heads_, trace_groups

Keep = Callable[[TracedGroup], Sequence[int]]
"""From a group to the numbers of the units to keep."""


def cut_network(network: nn.Module, sample_shape: tuple[int, int, int], keep: Keep) -> nn.Module:
    """Return a copy of the network on the CPU, in eval mode, with the kept units of each group.

    Units keep their order, and attributes with numbers of heads are updated.

    sample_shape: (C, H, W) of a uint8 sample.
    RequestError names the layer that cannot be cut.
    """
    copy, traced = trace_groups(network, sample_shape)
    sample = torch.zeros((2, *sample_shape), dtype=torch.uint8)
    with torch.no_grad():
        answers = copy(sample).shape
    for number, group in enumerate(traced):
        error = _cut_(copy, group, keep(group)) or _failure(copy, sample, answers, last=number == len(traced) - 1)
        if error:
            culprit = _culprit(network, sample_shape, keep) or group.layers[0]
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


def _failure(network: nn.Module, sample: torch.Tensor, answers: torch.Size, *, last: bool) -> str:
    """Run a network after its last cut; return the error, or an empty text."""
    if not last:
        return ""
    try:
        with torch.no_grad():
            shape = network(sample).shape
    except Exception as error:
        return describe(error)
    return "" if shape == answers else f"its output is {tuple(shape)} instead of {tuple(answers)}"


def _culprit(network: nn.Module, sample_shape: tuple[int, int, int], keep: Keep) -> str:
    """Return the first layer whose group breaks the network if cut alone."""
    count = len(trace_groups(network, sample_shape)[1])
    sample = torch.zeros((2, *sample_shape), dtype=torch.uint8)
    for number in range(count):
        copy, traced = trace_groups(network, sample_shape)
        with torch.no_grad():
            answers = copy(sample).shape
        group = traced[number]
        if _cut_(copy, group, keep(group)) or _failure(copy, sample, answers, last=True):
            return group.layers[0]
    return ""
