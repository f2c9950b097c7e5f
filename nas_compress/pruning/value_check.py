"""Comparison of cut networks with the masked network: finds layers whose channels cannot be removed.

A group of torch-pruning may be wrong: channels may be shuffled, sliced, broadcast or convolved in between. The cut
network then still runs, but computes other values than the network whose removed channels are masked.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd

from nas_compress.errors import describe
from nas_compress.pruning.channel_groups import LAYERS, TracedGroup, trace_groups
from nas_compress.pruning.pruned_family import initialise_anew_
from nas_compress.pruning.removal import Chosen, exchanges, outputs_of, remove_units_, restored, shortened
from nas_compress.tasks.batch import Batch, rows

SEED = 20240229
TOLERANCE = 1e-3
"""Largest difference, as a fraction of the effect of the mask."""

ROUNDING = 2e-5
"""Largest difference by rounding, as a fraction of the largest output."""

Mask = Literal["zeros", "copies"]
"""`zeros` sets removed channels to 0. `copies` repeats kept channels that no layer reads twice.

Sums over channels agree with the first, means over channels (layer normalisation, for example) with the second.
"""


@dataclass(frozen=True, kw_only=True)
class WholeLayers:
    """Layers that keep all their channels. layers: paths of one group. reason: one line."""

    layers: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return f"{', '.join(self.layers)} ({self.reason})"


def whole_layers(
    network: nn.Module, example: Batch, *, kept: Collection[str] = (), reason: str = ""
) -> tuple[WholeLayers, ...]:
    """Return the groups that cannot be cut, with reasons, in forward order.

    A part of the units of each group is removed, first of all groups together, then of halves of the groups until each
    wrong one is found. Parameters are random, so that no layer hides another.

    example: inputs of two or more samples.
    kept: layers whose groups are not tried. reason: of these layers.
    RequestError if torch-pruning cannot trace the network.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the user's module, as in tracing
        return _found(network, example, kept, reason)


def _found(network: nn.Module, example: Batch, kept: Collection[str], reason: str) -> tuple[WholeLayers, ...]:
    copy, traced = trace_groups(network, example)
    found = {group.layers: group.problem for group in traced if group.problem}
    found |= {group.layers: "its channels are one unit" for group in traced if len(group.units) == 1}
    found |= {group.layers: reason for group in traced if any(layer in kept for layer in group.layers)}
    comparison = _Comparison(copy, example)
    candidates = [group for group in traced if group.layers not in found]
    for group, difference in comparison.wrong(candidates):
        found[group.layers] = difference
    return tuple(
        WholeLayers(layers=group.layers, reason=found[group.layers]) for group in traced if group.layers in found
    )


class _Comparison:
    """A traced network with random parameters, its inputs, and its outputs before any cut."""

    def __init__(self, network: nn.Module, example: Batch) -> None:
        self._network = network
        self._batch = _inputs(rows(example, 0, 4))
        own = deepcopy(network.state_dict())
        try:
            _randomise_(network, self._batch)
            self._outputs = outputs_of(network, self._batch)
            usable = all(bool(output.isfinite().all()) for output in self._outputs)
        except Exception:  # a module's own reset_parameters may raise anything
            usable = False
        if not usable:
            network.load_state_dict(own)
            self._batch = rows(example, 0, 4)
            self._outputs = outputs_of(network.eval(), self._batch)

    def wrong(self, groups: Sequence[TracedGroup]) -> list[tuple[TracedGroup, str]]:
        """Return the groups that cannot be cut together with the others, with reasons."""
        found = self._among(groups)
        wrong = {group.layers for group, _ in found}
        right: list[TracedGroup] = [group for group in groups if group.layers not in wrong]
        if len(groups) > 1 and found and self._failure(right, ()):
            right = []
            for group in groups:  # right alone, but not together with an earlier one
                reason = "" if group.layers in wrong else self._failure([*right, group], ())
                if reason:
                    found.append((group, reason))
                elif group.layers not in wrong:
                    right.append(group)
        return found

    def _among(self, groups: Sequence[TracedGroup]) -> list[tuple[TracedGroup, str]]:
        if not groups:
            return []
        reason = self._failure(groups, ("zeros", "copies"))
        if not reason:
            return []
        if len(groups) == 1:
            return [(groups[0], reason)]
        middle = len(groups) // 2
        return self._among(groups[:middle]) + self._among(groups[middle:])

    def _failure(self, groups: Sequence[TracedGroup], masks: Sequence[Mask]) -> str:
        """Remove a part of the groups' units and return the reason against it, or an empty text.

        masks: one of them must give the same values; if there are none, the cut network only has to run.
        """
        halves = [_halves(group, torch.Generator().manual_seed(SEED)) for group in groups]
        chosen: Chosen = [(group, kept) for group, (kept, _) in zip(groups, halves, strict=True)]
        with restored(self._network):
            try:
                places, cut = self._cut(chosen)
            except Exception as error:  # torch-pruning and a user's module may raise anything
                return shortened(describe(error))
        if [output.shape for output in cut] != [output.shape for output in self._outputs]:
            return "the shape of the network's output depends on it"
        smallest = torch.inf
        for mask in masks:
            pairs = _pairs(groups, halves) if mask == "copies" else {}
            difference = _difference(cut, self._masked(places, pairs), self._outputs)
            if difference <= TOLERANCE:
                return ""
            smallest = min(smallest, difference)
        if not masks:
            return ""
        return f"without a part of them the values differ from those of the masked network by {smallest:.1%}"

    def _cut(self, chosen: Chosen) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Cut in place; return the places of the kept numbers in their tensors by name, and the outputs."""
        network = self._network
        values = {name: tensor.data for name, tensor in _tensors(network)}
        for name, tensor in _tensors(network):
            tensor.data = torch.arange(values[name].numel(), dtype=torch.float64).reshape(values[name].shape)
        remove_units_(network, chosen)
        places = {}
        for name, tensor in _tensors(network):
            if tensor.shape == values[name].shape:
                tensor.data = values[name]
            else:
                places[name] = tensor.data.long()
                tensor.data = values[name].flatten()[places[name]]
        return places, outputs_of(network, self._batch)

    def _masked(self, places: Mapping[str, Tensor], pairs: Mapping[int, Sequence[tuple[int, int]]]) -> list[Tensor]:
        """Run the whole network without the numbers that the cut removes.

        pairs: removed and kept channels by the layer's id, if kept channels are repeated.
        """
        network = self._network
        with restored(network):
            for name, tensor in _tensors(network):
                if name in places:
                    path, _, own = name.rpartition(".")
                    layer = network.get_submodule(path)
                    parent = network.get_submodule(path.rpartition(".")[0])
                    attention = next(
                        (each for each in (layer, parent) if isinstance(each, nn.MultiheadAttention)), None
                    )
                    kept = places[name].flatten()
                    masked = torch.zeros_like(tensor.data)
                    masked.flatten()[kept] = tensor.data.flatten()[kept]
                    if attention is layer:
                        masked = _rescaled(masked, places[name], own)
                    else:
                        known = [pairs.get(id(key), ()) for key in (tensor, layer, attention)]
                        masked = _repeated(masked, places[name], layer, next(filter(None, known), ()))
                    tensor.data = masked
            return outputs_of(network, self._batch)


def _tensors(network: nn.Module) -> list[tuple[str, Tensor]]:
    return [
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    ]


def _halves(group: TracedGroup, random: torch.Generator) -> tuple[list[int], list[int]]:
    """Split the numbers of the units at random: kept ones, and one or more removed ones for each of them."""
    count = len(group.units)
    parts = next(divisor for divisor in range(2, count + 1) if count % divisor == 0)
    order = torch.randperm(count, generator=random).tolist()
    return sorted(order[: count // parts]), sorted(order[count // parts :])


def _pairs(
    groups: Sequence[TracedGroup], halves: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> dict[int, list[tuple[int, int]]]:
    """Give each removed channel a kept one, by the id of the layer or bare parameter."""
    found: dict[int, list[tuple[int, int]]] = {}
    for group, (kept, removed) in zip(groups, halves, strict=True):
        units = [(number, kept[place % len(kept)]) for place, number in enumerate(removed)]
        for module, channels in exchanges(group, units):
            found.setdefault(id(module), []).extend(channels)
    return found


def _repeated(masked: Tensor, places: Tensor, layer: nn.Module, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Repeat kept channels in the dimensions of outputs; the inputs of a layer stay masked."""
    inputs = 0 if isinstance(layer, _ConvTransposeNd) else 1
    for dim in range(masked.ndim):
        reads = isinstance(layer, LAYERS) and dim == inputs and masked.ndim > 1
        if pairs and not reads and places.shape[dim] != masked.shape[dim]:
            old, new = torch.tensor(pairs).unbind(1)
            masked = masked.index_copy(dim, old, masked.index_select(dim, new))
    return masked


def _rescaled(masked: Tensor, places: Tensor, name: str) -> Tensor:
    """Undo the smaller divisor of the products of queries and keys in a cut `nn.MultiheadAttention`."""
    if name.startswith(("in_proj", "q_proj")):
        size = len(masked) // (3 if name.startswith("in_proj") else 1)
        masked[:size] *= (len(masked) / len(places)) ** 0.5
    return masked


def _difference(cut: Sequence[Tensor], masked: Sequence[Tensor], uncut: Sequence[Tensor]) -> float:
    """Return the largest difference as a fraction of the effect of the mask; 0 if it is rounding."""
    found = [0.0]
    for ours, expected, before in zip(cut, masked, uncut, strict=True):
        difference = float((ours - expected).abs().max())
        if not difference <= ROUNDING * float(expected.abs().max()):
            effect = float((expected - before).abs().max())
            found.append(difference / effect if effect > 0 and difference < torch.inf else torch.inf)
    return max(found)


def _inputs(batch: Batch) -> Batch:
    """Shuffle the numbers of each sample, so that all places of the inputs differ."""
    random = torch.Generator().manual_seed(SEED)
    shuffled = {}
    for name, tensor in batch.items():
        rows_of = tensor.cpu().flatten(1)
        order = torch.randperm(rows_of.shape[1], generator=random)
        shuffled[name] = rows_of[:, order].reshape(tensor.shape)
    return shuffled


def _randomise_(network: nn.Module, batch: Batch) -> None:
    """Draw all parameters, and compute the statistics of batch normalisation from the batch."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        initialise_anew_(network)
        for parameter in network.parameters():
            if sum(size > 1 for size in parameter.shape) <= 1:
                parameter.add_(0.25 * torch.randn_like(parameter))
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.train()
            norm.momentum = 1.0
        outputs_of(network, batch)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.eval()
            norm.momentum = momentum
