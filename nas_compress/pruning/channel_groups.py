"""The channel groups of a network: which layers' channels can only go together, by torch-pruning's tracing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning
from numpy.typing import NDArray
from torch import nn

from nas_compress.errors import RequestError, describe
from nas_compress.pruning.units import attention_of, blocks, equal_parts, head_count, strided


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelGroup:
    """Layers whose output channels can only go together, and one importance per unit (float64, any scale).

    A unit is one channel, one attention head, or one channel of each group of a grouped layer; `unit` are its channels.
    `position` is the place of the first of them in forward order, from 0 (input) to 1 (output). `kind` is the same for
    groups of the same structure. The units of `attention` are heads.
    """

    layers: tuple[str, ...]
    position: float
    importance: NDArray[np.float64]
    kind: str = ""
    unit: int = 1
    attention: bool = False

    @property
    def channels(self) -> int:
        """The channels that the group has in all."""
        return len(self.importance) * self.unit


@dataclass(frozen=True, kw_only=True, eq=False)
class TracedGroup:
    """A group in a traced network: its layers in forward order, its units, and torch-pruning's own group.

    `units` are channels of torch-pruning's root that go as a whole. `kind` is the same for groups of the same
    structure. `attention` is the path of the module whose heads the units are, None elsewhere.
    """

    layers: tuple[str, ...]
    units: tuple[tuple[int, ...], ...]
    kind: str
    group: Any
    attention: str | None = None

    @property
    def unit(self) -> int:
        """Channels of one unit."""
        return len(self.units[0])


def trace_groups(network: nn.Module, sample_shape: tuple[int, int, int]) -> tuple[nn.Module, list[TracedGroup]]:
    """A copy of the network on the CPU, in eval mode, and its groups in forward order, without the classifier's.

    RequestError where torch-pruning cannot follow it.
    """
    # A copy: tracing follows gradients, which a frozen network has none of, and leaves its mode changed.
    copy = deepcopy(network).cpu().eval().requires_grad_(True)
    sample = torch.zeros((1, *sample_shape), dtype=torch.uint8)
    names = {module: name for name, module in copy.named_modules()}
    called: list[str] = []
    try:
        with _quiet(), _recorded(copy, called):
            graph = torch_pruning.DependencyGraph().build_dependency(copy, example_inputs=sample)
            found = list(graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]))
    except Exception as error:
        raise RequestError(
            f"the teacher must be traceable for its vote, but torch-pruning raised {describe(error)}"
        ) from error
    order = {name: number for number, name in enumerate(dict.fromkeys(called))}
    traced = []
    for group in found:
        layers = {names[item.dep.target.module] for item in group if cuts_outputs(item.dep)}
        ordered = tuple(sorted(layers, key=order.__getitem__))
        if ordered and called[-1] not in ordered:
            traced.append(_with_units(group, ordered, copy, graph))
    if not traced:
        raise RequestError("the teacher must be traceable for its vote, but torch-pruning found no channels to remove")
    return copy, sorted(traced, key=lambda item: order[item.layers[0]])


def _with_units(group: Any, layers: tuple[str, ...], network: nn.Module, graph: Any) -> TracedGroup:
    attention = attention_of(group, layers, network)
    heads = head_count(network.get_submodule(attention)) if attention is not None else None
    reader = next((item for item in reversed(group.items) if _cuts_inputs(item.dep)), None)
    if heads is not None and reader is not None and len(reader.idxs) % heads[1] == 0:
        # seen from the layer behind it, attention has one channel where a fused layer makes three
        size = len(reader.idxs)
        group = graph.get_pruning_group(reader.dep.target.module, reader.dep.handler, list(range(size)))
        units = blocks(size, heads[1])
    else:
        attention, size = None, len(group[0].idxs)
        parts = equal_parts(item.dep.target.module for item in group)
        units = strided(size, parts if size % parts == 0 else 1)
    return TracedGroup(layers=layers, units=units, kind=_kind(group), group=group, attention=attention)


def _cuts_inputs(dependency: Any) -> bool:
    return dependency.handler in (torch_pruning.prune_conv_in_channels, torch_pruning.prune_linear_in_channels)


def cuts_outputs(dependency: Any) -> bool:
    """Whether a dependency of torch-pruning removes output channels of a convolution or linear layer."""
    module = dependency.target.module
    handler = torch_pruning.prune_conv_out_channels, torch_pruning.prune_linear_out_channels
    depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
    return isinstance(module, (nn.Conv2d, nn.Linear)) and (dependency.handler in handler or depthwise)


def _kind(group: Any) -> str:
    """The group's structure as text: what each dependency acts on, and how (Fang et al. 2024, arXiv 2407.04616)."""
    return " ".join(f"{type(item.dep.target.module).__name__}.{item.dep.handler.__name__}" for item in group)


@contextmanager
def _recorded(network: nn.Module, called: list[str]) -> Iterator[None]:
    """Note the paths of convolutions and linear layers as they run."""
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
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
