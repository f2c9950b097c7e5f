"""The importance of attention heads, against masks written out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from module_zoo import SHAPE, Transformer
from torch import Tensor
from torch.nn import functional as F

from image_batches import example, labelled
from nas_compress.errors import RequestError
from nas_compress.models.features import ObservableNetwork
from nas_compress.pruning.channel_groups import ChannelGroup
from nas_compress.pruning.head_importance import rank_heads
from nas_compress.pruning.importance_criteria import rank_channels
from nas_compress.pruning.ranking import surviving_fractions

MakeNetwork = Callable[..., ObservableNetwork]
SAMPLES = torch.randint(0, 17, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 4])
BATCHES = labelled([(SAMPLES[:4], LABELS[:4]), (SAMPLES[4:], LABELS[4:])])


def ranked(network: torch.nn.Module) -> tuple[ChannelGroup, ...]:
    return rank_heads(rank_channels(network, example(SHAPE), criterion="l1", seed=0), network, example(SHAPE), BATCHES)


def test_it_is_the_mean_absolute_gradient_of_a_mask(make_network: MakeNetwork) -> None:
    network = make_network("vit", (2,), step=16)
    masks = [torch.ones(len(SAMPLES), 4, requires_grad=True) for _ in range(2)]

    def masked(mask: Tensor) -> Callable[..., Tensor]:
        # answers of the heads side by side, all tokens of a sample below each other
        return lambda module, inputs, output: (
            output.view(len(SAMPLES), -1, 4, output.shape[1] // 4) * mask[:, None, :, None]
        ).reshape(output.shape)

    hooks = [
        layer.attention.point.register_forward_hook(masked(mask))
        for layer, mask in zip(network.layers, masks, strict=True)
    ]
    F.cross_entropy(network(SAMPLES), LABELS, reduction="sum").backward()
    for hook in hooks:
        hook.remove()
    attention = [group for group in ranked(network) if group.attention]
    assert [group.layers[0] for group in attention] == [f"layers.{number}.attention.query" for number in range(2)]
    for group, mask in zip(attention, masks, strict=True):
        expected = mask.grad.abs().sum(0).double().numpy()
        assert group.importance == pytest.approx(expected / np.linalg.norm(expected), rel=1e-4)


def test_a_head_that_nobody_reads_goes_first() -> None:
    network = Transformer()
    with torch.no_grad():
        network.attentions[1].proj.weight[:, 6:18] = 0  # the second and third of four heads
    groups = ranked(network.eval())
    first, second = (group for group in groups if group.attention)
    assert second.importance[1] == second.importance[2] == 0 and min(first.importance) > 0
    kept = dict(zip([group.layers for group in groups], surviving_fractions(groups, 0.0, head_ratio=0.25), strict=True))
    assert kept.pop(second.layers) == 0.5 and set(kept.values()) == {1.0}
    fractions = surviving_fractions(groups, 0.0, head_ratio=0.25, min_heads=3)
    assert sorted(fractions)[:3] == [0.75, 0.75, 1.0]


def test_heads_and_channels_have_ratios_of_their_own() -> None:
    groups = ranked(Transformer().eval())
    fractions = surviving_fractions(groups, 0.5, ranking="local", head_ratio=0.25)
    heads = [fraction for group, fraction in zip(groups, fractions, strict=True) if group.attention]
    channels = [fraction for group, fraction in zip(groups, fractions, strict=True) if not group.attention]
    assert sum(heads) == 1.5 and set(channels) == {0.5}
    with pytest.raises(RequestError, match=r"must keep 4 head\(s\), but head_ratio=0.25 removes 2 of 8 and would"):
        surviving_fractions(groups, 0.5, head_ratio=0.25, min_heads=4)


def test_a_convolutional_teacher_has_no_heads(make_network: MakeNetwork) -> None:
    with pytest.raises(RequestError, match="head_ratio needs a teacher with attention heads, but the teacher has none"):
        ranked(make_network("resnet"))
