"""Groups of channels that can only be removed together, found by torch-pruning's tracing.

A unit of a group is one channel, one attention head, or one channel of each group of a grouped layer.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from nas_compress.errors import RequestError, describe
from nas_compress.pruning.coupling import Units, coupled_group, widest
from nas_compress.tasks.batch import Batch, rows, to_device

HEAD_COUNTS = ("num_heads", "n_heads", "heads", "num_attention_heads", "nhead")
"""Attributes of attention modules with the number of heads."""

HEAD_WIDTHS = ("attn_dim", "inner_dim", "all_head_size", "inner_size")
"""Attributes of attention modules with the channels of all heads together."""

LAYERS = (_ConvNd, nn.Linear)
"""Classes of layers with output channels that can be removed."""

ATTENTION_OPERATIONS = ("ScaledDotProduct", "Softmax", "BmmBackward")


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelGroup:
    """Layers whose output channels can only be removed together.

    position: place of the first layer in forward order, from 0 (input) to 1 (output).
    importance: one value per unit, float64, any scale.
    kind: equal for groups of the same structure.
    unit: channels of one unit.
    attention: True if the units are heads.
    """

    layers: tuple[str, ...]
    position: float
    importance: NDArray[np.float64]
    kind: str = ""
    unit: int = 1
    attention: bool = False

    @property
    def channels(self) -> int:
        """Number of channels of all units."""
        return len(self.importance) * self.unit


@dataclass(frozen=True, kw_only=True, eq=False)
class TracedGroup:
    """A group in a traced network.

    layers: paths in forward order.
    units: channels of torch-pruning's root by unit.
    kind: equal for groups of the same structure.
    group: torch-pruning's own group, without the layers of other numbers of channels.
    attention: path of the attention module if the units are its heads, else None.
    problem: reason for a group that no part of can be removed, else empty.
    """

    layers: tuple[str, ...]
    units: Units
    kind: str
    group: Any
    attention: str | None = None
    problem: str = ""

    @property
    def unit(self) -> int:
        """Channels of one unit."""
        return len(self.units[0])


def trace_groups(network: nn.Module, example: Batch) -> tuple[nn.Module, list[TracedGroup]]:
    """Copy a network to the CPU in eval mode, and find its groups in forward order, without those of its outputs.

    example: inputs of one or more samples.

    Groups with a problem cannot be cut.

    RequestError if torch-pruning cannot trace it.
    """
    # a copy, because tracing needs gradients, also of a frozen network, and changes the mode
    copy = deepcopy(network).cpu().eval().requires_grad_(True)
    sample = tuple(to_device(rows(example, 0, 1), "cpu").values())
    names = {module: name for name, module in copy.named_modules()}
    called: list[str] = []
    try:
        with _quiet(), _recorded(copy, called):
            graph = torch_pruning.DependencyGraph().build_dependency(
                copy, example_inputs=sample, forward_fn=lambda module, inputs: module(*inputs)
            )
            one_output = isinstance(copy(*sample), Tensor)
            found = list(_all_groups(graph, names))
    except Exception as error:
        raise RequestError(
            f"the teacher must be traceable to rank its channels, but torch-pruning raised {describe(error)}"
        ) from error
    order = {name: number for number, name in enumerate(dict.fromkeys(called))}
    traced = []
    for group, units, problem in found:
        layers = {names[item.dep.target.module] for item in group if cuts_outputs(item.dep)}
        ordered = tuple(sorted(layers, key=lambda layer: order.get(layer, len(order))))
        is_output = called[-1] in ordered and _reaches_output(group)
        if ordered and not is_output and (one_output or _is_read(group)):
            traced.append(_with_units(group, units, ordered, copy, graph, problem))
    if not traced:
        raise RequestError(
            "the teacher must be traceable to rank its channels, but torch-pruning found no channels to remove"
        )
    return copy, sorted(traced, key=lambda item: order.get(item.layers[0], len(order)))


def _all_groups(graph: Any, names: Mapping[nn.Module, str]) -> Iterator[tuple[Any, Units, str]]:
    """Find the group of each layer with several output channels, its units, and the problem if it cannot be right.

    Layers with the most channels are the first roots. torch-pruning couples factors of a product that is broadcast, but
    a gate of 1 channel is no part of the group of its 32.
    """
    layers = [module for module in graph.module2node if isinstance(module, LAYERS)]
    owners: dict[nn.Module, str] = {}
    limit = widest(graph)
    for root in sorted(layers, key=graph.get_out_channels, reverse=True):
        channels = graph.get_out_channels(root)
        if root in owners or channels < 2:
            continue
        cuts = graph.get_pruner_of_module(root).prune_out_channels
        group, units = coupled_group(graph, root, cuts, channels, limit=limit)
        members = [item.dep.target.module for item in group if cuts_outputs(item.dep)]
        problem = _problem(members, owners)
        group._group = [item for item in group.items if item.dep.target.module not in owners or cuts_inputs(item.dep)]
        owners.update((member, names[root]) for member in members if member not in owners)
        yield group, units, problem


def _problem(members: Sequence[nn.Module], owners: Mapping[nn.Module, str]) -> str:
    """Return the reason for which layers cannot be a group, or an empty text."""
    other = next((owners[member] for member in members if member in owners), None)
    if other is not None:
        return f"its channels are mixed with a part of those of {other}"
    if any(
        is_parametrized(member) or not isinstance(getattr(member, "weight", None), nn.Parameter) for member in members
    ):
        return "its weight is computed by a parametrization"  # or by the older hooks, such as nn.utils.weight_norm
    return ""


def _with_units(
    group: Any, units: Units, layers: tuple[str, ...], network: nn.Module, graph: Any, problem: str
) -> TracedGroup:
    attention = attention_of(group, layers, network)
    heads = head_count(network.get_submodule(attention)) if attention is not None else None
    reader = next((item for item in reversed(group.items) if cuts_inputs(item.dep)), None)
    if heads is not None and reader is not None and len(reader.idxs) % heads[1] == 0:
        # from the next layer: a fused layer has three channels for each channel of the attention
        size = len(reader.idxs)
        dependency = reader.dep
        group, _ = coupled_group(graph, dependency.target.module, dependency.handler, size, limit=widest(graph))
        units = blocks(size, heads[1])
    else:
        attention, size = None, len(group[0].idxs)
        parts = equal_parts(item.dep.target.module for item in group)
        if parts > 1 and size % parts == 0:
            units = strided(size, parts)
    return TracedGroup(layers=layers, units=units, kind=_kind(group), group=group, attention=attention, problem=problem)


def _reaches_output(group: Any) -> bool:
    """Return False if an output of the network has another number of channels than the group."""
    outputs = [item for item in group if isinstance(item.dep.target.module, torch_pruning.ops._OutputOp)]
    return not outputs or any(max(item.idxs) + 1 in item.dep.target.module.shape for item in outputs)


def _is_read(group: Any) -> bool:
    """True if a layer reads the group's channels; otherwise they are an output of the network."""
    return any(cuts_inputs(item.dep) for item in group)


def cuts_inputs(dependency: Any) -> bool:
    """Return True if a dependency of torch-pruning removes input channels of a convolution or linear layer."""
    return dependency.handler in (torch_pruning.prune_conv_in_channels, torch_pruning.prune_linear_in_channels)


def cuts_outputs(dependency: Any) -> bool:
    """True if a dependency of torch-pruning removes output channels of a convolution or linear layer."""
    module = dependency.target.module
    handler = torch_pruning.prune_conv_out_channels, torch_pruning.prune_linear_out_channels
    depthwise = isinstance(module, _ConvNd) and module.groups == module.in_channels > 1
    return isinstance(module, LAYERS) and (dependency.handler in handler or depthwise)


def _kind(group: Any) -> str:
    """Module type and operation of each dependency as text (Fang et al. 2024, arXiv 2407.04616)."""
    return " ".join(f"{type(item.dep.target.module).__name__}.{item.dep.handler.__name__}" for item in group)


def attention_of(group: Any, layers: Sequence[str], network: nn.Module) -> str | None:
    """Return the path of the attention module whose queries, keys and values are all of a group's layers, or None."""
    parents = {layer.rpartition(".")[0] for layer in layers}
    if len(parents) != 1 or not any(_attends(item.dep.target.name) for item in group):
        return None
    (parent,) = parents
    return parent if head_count(network.get_submodule(parent)) else None


def head_count(attention: nn.Module) -> tuple[str, int] | None:
    """Return the attribute with a module's number of heads and its value, or None."""
    for name in HEAD_COUNTS:
        value = getattr(attention, name, None)
        if isinstance(value, int) and value > 0:
            return name, value
    return None


def keep_heads_(attention: nn.Module, kept: int, *, before: int, after: int) -> None:
    """Update a module's attributes to `kept` heads, and from `before` to `after` channels of all heads together."""
    known = head_count(attention)
    if known is not None:
        setattr(attention, known[0], kept)
    for name in HEAD_WIDTHS:
        if getattr(attention, name, None) == before:
            setattr(attention, name, after)


def blocks(size: int, count: int) -> tuple[tuple[int, ...], ...]:
    """Split channels into `count` runs of neighbours, such as heads.

    >>> blocks(6, 2)
    ((0, 1, 2), (3, 4, 5))
    """
    width = size // count
    return tuple(tuple(range(start, start + width)) for start in range(0, size, width))


def strided(size: int, count: int) -> tuple[tuple[int, ...], ...]:
    """Take one channel of each of `count` groups at a time, so that groups stay equal.

    >>> strided(6, 2)
    ((0, 3), (1, 4), (2, 5))
    """
    width = size // count
    return tuple(tuple(range(first, size, width)) for first in range(width))


def equal_parts(modules: Iterable[nn.Module]) -> int:
    """Number of equal parts of the channels of these modules; 1 if each channel may go alone."""
    parts = [1]
    for module in modules:
        if isinstance(module, _ConvNd) and 1 < module.groups < module.in_channels:
            parts.append(module.groups)
        elif isinstance(module, nn.GroupNorm):
            parts.append(module.num_groups)
        elif isinstance(module, nn.MultiheadAttention):
            parts.append(module.num_heads)
    return math.lcm(*parts)


def _attends(name: str) -> bool:
    return any(operation in name for operation in ATTENTION_OPERATIONS)


@contextmanager
def _recorded(network: nn.Module, called: list[str]) -> Iterator[None]:
    """Append the paths of convolutions and linear layers as they run."""
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, LAYERS)]
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
