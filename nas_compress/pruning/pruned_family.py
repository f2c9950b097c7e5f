"""Family `pruned`: a user's module, cut by dependency groups and initialised again."""

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
from nas_compress.tasks.batch import Batch
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.candidate import PRUNED

BARE_STD = 0.02
"""Standard deviation of parameters outside layers, such as position embeddings and class tokens (as in ViT, BERT)."""


def pruned_widths(
    groups: Sequence[ChannelGroup], fractions: Sequence[float], *, width_multiplier: float, step: int
) -> tuple[Width, ...]:
    """Return the channels of each group's first layer: kept fraction times multiplier, in whole units.

    Single channels are rounded to multiples of `step`, or kept if there are fewer. Heads and other units are rounded
    to the nearest number.
    """
    if width_multiplier > 1:
        raise RequestError(f"family 'pruned' can only cut: width_multiplier <= 1 must hold, but got {width_multiplier}")
    widths = []
    for group, fraction in zip(groups, fractions, strict=True):
        asked = group.channels * fraction * width_multiplier
        units = min(round_to_step(asked / group.unit, step if group.unit == 1 else 1), len(group.importance))
        widths.append(Width(layer=group.layers[0], asked=round(asked, 3), channels=units * group.unit))
    return tuple(widths)


def build_pruned(make: Callable[[], nn.Module], architecture: Architecture, example: Batch) -> nn.Module:
    """Build a module, cut it to the architecture's widths and initialise it from torch's random state.

    Layers without a width in the architecture stay whole.

    example: inputs of two or more samples. The choice of channels does not matter, because all weights are drawn again.
    RequestError names a layer that is missing in the architecture or cannot be cut.
    """
    wanted = {width.layer: width.channels for width in architecture.widths}
    found: set[str] = set()

    def keep(group: TracedGroup) -> range | None:
        layer = group.layers[0]
        found.add(layer)
        return range(wanted[layer] // group.unit) if layer in wanted else None

    with torch.random.fork_rng(devices=[]):  # the module's own initial weights are dropped
        module = make()
    network = cut_network(module, example, keep).requires_grad_(True)
    missing = [layer for layer in wanted if layer not in found]
    if missing:
        raise RequestError(f"the module must have each layer of the architecture, but {missing[0]} is missing")
    initialise_anew_(network)
    if architecture.factorization != "none":
        factorise_(network, rank_fraction=architecture.rank_fraction, kind=architecture.factorization)
    return network


def build_network(architecture: Architecture, make: Callable[[], nn.Module], example: Batch) -> nn.Module:
    """Build a student with initial weights: of a family, or cut from the module of `make`.

    example: inputs of two or more samples.
    """
    if architecture.family == PRUNED:
        with torch.device("cpu"):  # tracing needs real tensors, also inside torch.device("meta")
            return build_pruned(make, architecture, example)
    return build_student(architecture)


@runtime_checkable
class Resettable(Protocol):
    """A module with its own initialisation."""

    def reset_parameters(self) -> None:
        """Draw the parameters again, in place."""
        ...


def initialise_anew_(network: nn.Module) -> None:
    """Draw every parameter again in place, by its layer's `reset_parameters` if it has one.

    Other vectors become 0 if their name contains `bias` or `beta`, else 1. Other tensors are normal with standard
    deviation BARE_STD. Statistics of batch normalisation are reset; other buffers are constants of the module.
    """
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(torch.nan)  # marks parameters without a reset
        for module in network.modules():
            if isinstance(module, Resettable):
                module.reset_parameters()
        for name, parameter in network.named_parameters():
            if bool(parameter.isnan().any()):
                _initialise_(parameter, name.rpartition(".")[2])


def _initialise_(parameter: Tensor, name: str) -> None:
    if sum(size > 1 for size in parameter.shape) > 1:
        nn.init.trunc_normal_(parameter, std=BARE_STD, a=-2 * BARE_STD, b=2 * BARE_STD)
    elif "bias" in name or "beta" in name:
        nn.init.zeros_(parameter)
    elif parameter.ndim > 1:  # a token: (1, 1, width)
        nn.init.trunc_normal_(parameter, std=BARE_STD, a=-2 * BARE_STD, b=2 * BARE_STD)
    else:
        nn.init.ones_(parameter)
