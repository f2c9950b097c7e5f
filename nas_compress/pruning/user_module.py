"""Family `pruned`: a module of any make, cut by dependency groups, with every weight fresh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.models.factorised import factorise_
from nas_compress.models.families import build_student
from nas_compress.pruning.channel_groups import ChannelGroup, TracedGroup
from nas_compress.pruning.cutting import cut_network
from nas_compress.pruning.widths import round_to_step
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.candidate import PRUNED

BARE_STD = 0.02
"""Spread of parameters that belong to no layer, such as position embeddings and class tokens (as in ViT and BERT)."""


def pruned_widths(
    groups: Sequence[ChannelGroup], fractions: Sequence[float], *, width_multiplier: float, step: int
) -> tuple[Width, ...]:
    """Channels of each group's first layer: its surviving fraction times the multiplier, in whole units.

    Single channels are rounded to `step` (a layer that is smaller stays whole), heads and the like to the nearest.
    """
    if width_multiplier > 1:
        raise RequestError(f"family 'pruned' can only cut: width_multiplier <= 1 must hold, but got {width_multiplier}")
    widths = []
    for group, fraction in zip(groups, fractions, strict=True):
        asked = group.channels * fraction * width_multiplier
        units = min(round_to_step(asked / group.unit, step if group.unit == 1 else 1), len(group.importance))
        widths.append(Width(layer=group.layers[0], asked=round(asked, 3), channels=units * group.unit))
    return tuple(widths)


def build_pruned(make: Callable[[], nn.Module], architecture: Architecture) -> nn.Module:
    """The module that `make` builds, cut to the architecture's widths, with fresh weights from torch's random state.

    Which channels stay does not matter, for all weights are drawn anew. RequestError names a layer that the
    architecture does not know, or that cannot be cut.
    """
    wanted = {width.layer: width.channels for width in architecture.widths}

    def keep(group: TracedGroup) -> range:
        if group.layers[0] not in wanted:
            raise RequestError(f"the architecture must know every layer of the module, but {group.layers[0]} is new")
        return range(wanted[group.layers[0]] // group.unit)

    with torch.random.fork_rng(devices=[]):  # what the module draws for itself is not kept
        module = make()
    network = cut_network(module, architecture.input_shape, keep).requires_grad_(True)
    initialise_anew_(network)
    if architecture.factorization != "none":
        factorise_(network, rank_fraction=architecture.rank_fraction, kind=architecture.factorization)
    return network


def build_network(architecture: Architecture, make: Callable[[], nn.Module]) -> nn.Module:
    """A student with fresh weights: of one of our families, or cut from the module that `make` builds."""
    if architecture.family != PRUNED:
        return build_student(architecture)
    with torch.device("cpu"):  # tracing computes: it needs memory even where only shapes are asked for
        return build_pruned(make, architecture)


@runtime_checkable
class Resettable(Protocol):
    """A module that knows how its own parameters start."""

    def reset_parameters(self) -> None:
        """Draw them anew, in place."""
        ...


def initialise_anew_(network: nn.Module) -> None:
    """Draw every parameter anew in place, by its layer's own `reset_parameters` where there is one.

    Other parameters: one of a single dimension is 0 where it is named a bias, else 1; the others are normal with
    spread `BARE_STD`. Statistics of batch normalisation start again; other buffers are constants of the module that
    its factory made.
    """
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(torch.nan)  # what no layer resets is found by this
        for module in network.modules():
            if isinstance(module, Resettable):
                module.reset_parameters()
        for name, parameter in network.named_parameters():
            if bool(parameter.isnan().any()):
                _start_(parameter, name.rpartition(".")[2])


def _start_(parameter: Tensor, name: str) -> None:
    if sum(size > 1 for size in parameter.shape) > 1:
        nn.init.trunc_normal_(parameter, std=BARE_STD, a=-2 * BARE_STD, b=2 * BARE_STD)
    elif "bias" in name or "beta" in name:
        nn.init.zeros_(parameter)
    elif parameter.ndim > 1:  # a token: (1, 1, width)
        nn.init.trunc_normal_(parameter, std=BARE_STD, a=-2 * BARE_STD, b=2 * BARE_STD)
    else:
        nn.init.ones_(parameter)
