"""Removal of units from a traced network in place, and the way back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.errors import describe
from nas_compress.pruning.channel_groups import TracedGroup, cuts_inputs, keep_heads_
from nas_compress.tasks.batch import Batch, rows, to_device

Chosen = Sequence[tuple[TracedGroup, Sequence[int]]]
"""Groups of one traced network with the numbers of the units to keep."""

REASON_LENGTH = 160
"""Characters of a reason in a message, because texts of torch-pruning may list all indices."""


def remove_units_(network: nn.Module, chosen: Chosen) -> None:
    """Remove in place the units that are not kept. Any error of torch-pruning may be raised.

    A layer that several groups change is cut once, because its indices count from the whole layer.
    """
    removals: dict[tuple[int, object], tuple[Any, set[int]]] = {}
    for group, kept in chosen:
        gone = removed_channels(group, kept)
        for item in group.group.items:
            indices = {index for index, root in zip(item.idxs, item.root_idxs, strict=True) if root in gone}
            if indices and not _is_operation(item.dep.target.module):
                removals.setdefault((id(item.dep.target.module), item.dep.handler), (item.dep, set()))[1].update(
                    indices
                )
    for dependency, indices in removals.values():
        owner = _owner(network, dependency.target.module)
        changed = dependency(sorted(indices))
        if owner is not None:
            setattr(*owner, changed)
    for group, kept in chosen:
        if group.attention is not None and len(kept) < len(group.units):
            before, after = len(group.units) * group.unit, len(kept) * group.unit
            keep_heads_(network.get_submodule(group.attention), len(kept), before=before, after=after)


def removed_channels(group: TracedGroup, kept: Sequence[int]) -> set[int]:
    """Return the root's channels of the units that are not kept."""
    stays = set(kept)
    return {index for number, unit in enumerate(group.units) if number not in stays for index in unit}


def exchanges(
    group: TracedGroup, pairs: Sequence[tuple[int, int]]
) -> Iterator[tuple[nn.Module, list[tuple[int, int]]]]:
    """Pair the channels of two units in each member that has the group's channels as outputs or parameters.

    pairs: numbers of units.
    """
    partner = {
        old: new for first, second in pairs for old, new in zip(group.units[first], group.units[second], strict=True)
    }
    for item in group.group.items:
        if _is_operation(item.dep.target.module) or cuts_inputs(item.dep):
            continue
        own: dict[int, list[int]] = {}
        for index, root in zip(item.idxs, item.root_idxs, strict=True):
            own.setdefault(root, []).append(index)
        yield (
            item.dep.target.module,
            [both for old, new in partner.items() for both in zip(own.get(old, ()), own.get(new, ()), strict=False)],
        )


def _is_operation(module: nn.Module) -> bool:
    return type(module).__module__ == "torch_pruning.ops"


def _owner(network: nn.Module, module: object) -> tuple[nn.Module, str] | None:
    """Return the module and attribute of a bare parameter; None for a layer."""
    if not isinstance(module, nn.Parameter):
        return None
    path = next(name for name, value in network.named_parameters() if value is module)
    parent, _, name = path.rpartition(".")
    return network.get_submodule(parent), name


@contextmanager
def restored(network: nn.Module) -> Iterator[None]:
    """Give every module its parameters, buffers and attributes back after the block."""
    known = [(module, _contents(module)) for module in network.modules()]
    data = [(tensor, tensor.data) for tensor in [*network.parameters(), *network.buffers()]]
    try:
        yield
    finally:
        for module, contents in known:
            module.__dict__.clear()
            module.__dict__.update(contents)
        for tensor, values in data:
            tensor.data = values


def _contents(module: nn.Module) -> dict[str, Any]:
    return {name: dict(value) if type(value) is dict else value for name, value in vars(module).items()}


def outputs_of(network: nn.Module, batch: Batch) -> list[Tensor]:
    """Run a network on the CPU without gradients and return its output tensors."""
    with torch.no_grad():
        returned = network(*to_device(batch, "cpu").values())
    return [returned] if isinstance(returned, Tensor) else list(returned)


def failure_of(network: nn.Module, chosen: Chosen, example: Batch) -> str:
    """Cut in place and run two samples; return the error in one line, or an empty text."""
    batch = rows(example, 0, 2)
    expected = [tuple(output.shape) for output in outputs_of(network, batch)]
    try:
        remove_units_(network, chosen)
        found = [tuple(output.shape) for output in outputs_of(network, batch)]
    except Exception as error:  # torch-pruning and a user's module may raise anything
        return shortened(describe(error))
    return "" if found == expected else f"its output is {_shown(found)} instead of {_shown(expected)}"


def shortened(reason: str) -> str:
    """Cut a text to REASON_LENGTH characters."""
    return reason if len(reason) <= REASON_LENGTH else reason[: REASON_LENGTH - 3] + "..."


def _shown(shapes: Iterable[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))
