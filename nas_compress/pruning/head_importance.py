"""Importance of attention heads from the gradient of the loss by a mask on their output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from nas_compress.pruning.channel_groups import ChannelGroup, TracedGroup, trace_groups
from nas_compress.pruning.importance_criteria import LossSamples
from nas_compress.pruning.ranking import require_heads
from nas_compress.tasks.batch import Batch, count, to_device


def rank_heads(
    groups: Sequence[ChannelGroup], network: nn.Module, example: Batch, samples: LossSamples
) -> tuple[ChannelGroup, ...]:
    """Return the groups, with the importance I_h = E_x |dL(x)/dm_h| at m_h = 1 for attention heads.

    m_h multiplies the output of head h before the heads are mixed. Its gradient is the sum of output times gradient
    over positions and channels, computed per sample before the absolute value. The importance values of each layer are
    divided by their Euclidean norm (Michel et al. 2019, arXiv 1905.10650, equation 2 and section 4.1).

    example: inputs of one or more samples.
    RequestError if the network has no attention.
    """
    require_heads(groups)
    copy, traced = trace_groups(network, example)
    heads = [group for group in traced if group.attention is not None]
    sums = {group.layers: torch.zeros(len(group.units), dtype=torch.float64) for group in heads}
    with _watched(heads) as answers:
        for inputs, targets in samples.batches:
            answers.clear()
            with torch.enable_grad():
                loss = samples.loss(copy, to_device(inputs, "cpu"), to_device(targets, "cpu")) * count(inputs)
                gradients = torch.autograd.grad(loss, [answers[group.layers] for group in heads])
            for group, gradient in zip(heads, gradients, strict=True):
                sums[group.layers] += _by_head(answers[group.layers] * gradient, group, count(inputs))
    return tuple(_scored(group, sums) for group in groups)


@contextmanager
def _watched(groups: Sequence[TracedGroup]) -> Iterator[dict[tuple[str, ...], Tensor]]:
    """Record the heads' outputs of each group at every forward pass, as inputs of the layer that mixes them."""
    answers: dict[tuple[str, ...], Tensor] = {}

    def note(layers: tuple[str, ...], inputs: tuple[Tensor, ...]) -> None:
        answers[layers] = inputs[0]

    hooks = []
    for group in groups:
        mixer: nn.Module = group.group[0].dep.target.module
        hooks.append(mixer.register_forward_pre_hook(lambda _, inputs, layers=group.layers: note(layers, inputs)))
    try:
        yield answers
    finally:
        for hook in hooks:
            hook.remove()


def _by_head(products: Tensor, group: TracedGroup, samples: int) -> Tensor:
    """Sum over positions and channels of each head, then absolute values over samples: float64 (heads,)."""
    channels_last = products.movedim(1, -1) if products.ndim == 4 else products
    rows = channels_last.reshape(samples, -1, channels_last.shape[-1]).sum(dim=1).double()
    return torch.stack([rows[:, list(unit)].sum(dim=1) for unit in group.units], dim=1).abs().sum(dim=0).detach()


def _scored(group: ChannelGroup, sums: dict[tuple[str, ...], Tensor]) -> ChannelGroup:
    if group.layers not in sums:
        return group
    values = sums[group.layers].numpy()
    return replace(group, importance=values / max(float(np.linalg.norm(values)), np.finfo(np.float64).tiny))
