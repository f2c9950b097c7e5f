"""Activation points in a network that has none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from nas_compress.errors import RequestError, UntraceableError, first_line
from nas_compress.models.factorised import Factorised
from nas_compress.models.layers import ActivationPoint
from nas_compress.models.unfused_attention import plain_attention
from nas_compress.quantization.traced.decomposed_attention import separate_attention_
from nas_compress.quantization.traced.operation_names import changes_values, operation
from nas_compress.quantization.traced.placement import Placement, place
from nas_compress.quantization.traced.rewrites import rewrite_
from nas_compress.quantization.traced.tracer import RESULTS
from nas_compress.quantization.traced.train_and_eval import record
from nas_compress.tasks.batch import Batch, count

CLIPPED = {"relu6": 6.0}
"""Largest results of operations that clip."""

BATCHES = (2, 3)
"""Samples of the two batches of tracing."""

SAME = 1e-5
"""Largest difference of a traced network's outputs, as a fraction of the largest output."""


class Part(nn.Identity):
    """A module of the network that is recorded by its parts; it passes on the result, so that hooks see it."""


def has_points(network: nn.Module) -> bool:
    """Return True if a network has activation points of its own, apart from those between factors."""
    inside = {part for module in network.modules() if isinstance(module, Factorised) for part in module.modules()}
    return any(isinstance(module, ActivationPoint) and module not in inside for module in network.modules())


def with_activation_points(network: nn.Module, samples: Batch, *, watched: Sequence[str] = ()) -> nn.Module:
    """Return a network with activation points: itself if it has some, else its traced graph with the same parameters.

    Each layer keeps its path. Some layers are replaced by others with the same parameters, also in `network`: attention
    of torch by linear layers, convolutions of one dimension by those of two.

    samples: inputs on the network's device.
    watched: paths of modules whose results hooks observe.
    RequestError if the network cannot be traced.

    >>> own = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> traced = with_activation_points(own, {"input": torch.zeros(2, 1, 4, 4)})
    >>> [path for path, module in traced.named_modules() if isinstance(module, ActivationPoint)]
    ['points.0', 'points.1']
    """
    if has_points(network):
        return network
    name = type(network).__name__
    try:
        traced = _traced(network, [_batch(samples, size) for size in BATCHES], watched)
    except Exception as error:  # a user's forward may raise anything with a recorded value
        raise RequestError(
            f"activation_bits=8 needs a network that can be traced, but got {name}: {first_line(error)}; "
            "use activation_bits=32"
        ) from error
    return traced


def _traced(network: nn.Module, batches: Sequence[Sequence[Tensor]], watched: Sequence[str]) -> nn.Module:
    expected = [_answers(network, batch) for batch in batches]
    separate_attention_(network)
    recorded = record(network, batches)
    graph = recorded.graph
    layers = rewrite_(graph, network)
    for path, layer in layers.items():
        for name, child in network.get_submodule(path).named_children():
            layer.add_module(name, child)  # of a layer with functions of its own, such as an activation
        network.set_submodule(path, layer)
    parts = {path: node for path, node in recorded.parts.items() if path in watched and path not in layers}
    _drop_unread_(graph, network)
    modules: dict[str, nn.Module] = {path: Part() for path in parts}
    modules |= _insert_points_(graph, network, place(graph, network), parts)
    for path, node in parts.items():
        _read_through_(graph, node, path, list(node.users))
    for node in graph.nodes:
        node.meta.pop(RESULTS, None)
    targets = {str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr")}
    root = {target: modules.get(target) or attrgetter(target)(network) for target in targets}
    graph.lint()
    traced = fx.GraphModule(root, graph, class_name=type(network).__name__)
    traced.train(network.training)
    _require_same(traced, batches, expected)
    return traced


def _insert_points_(
    graph: fx.Graph, network: nn.Module, placement: Placement, parts: dict[str, fx.Node]
) -> dict[str, nn.Module]:
    """Insert the points in the order of the graph; return them by path."""
    points, prefix = dict[str, nn.Module](), _free_name(network)
    for node in list(graph.nodes):
        products = placement.products.get(node, [])
        for readers in ([*node.users] if node in placement.everywhere else [], products):
            if readers:
                path = f"{prefix}.{len(points)}"
                points[path] = ActivationPoint(CLIPPED.get(operation(node, network), math.inf))
                point = _read_through_(graph, node, path, readers)
                if readers is not products:
                    parts.update({part: point for part, end in parts.items() if end is node})
                    break
    return points


def _read_through_(graph: fx.Graph, node: fx.Node, path: str, readers: Sequence[fx.Node]) -> fx.Node:
    """Let readers of a value read it through a module."""
    with graph.inserting_after(node):
        passed = graph.call_module(path, (node,))
    passed.meta[RESULTS] = node.meta[RESULTS]
    for reader in readers:
        reader.replace_input_with(node, passed)
    return passed


def _drop_unread_(graph: fx.Graph, network: nn.Module) -> None:
    """Remove operations whose results nobody reads, apart from those that change a value in place."""
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output") and not changes_values(node, network):
            graph.erase_node(node)


def _free_name(network: nn.Module) -> str:
    name = "points"
    while hasattr(network, name):
        name += "_"
    return name


def _batch(samples: Batch, size: int) -> list[Tensor]:
    """Return the first samples, repeated if there are too few."""
    places = [place % count(samples) for place in range(size)]
    return [tensor[places] for tensor in samples.values()]


def _answers(network: nn.Module, batch: Sequence[Tensor]) -> list[Tensor]:
    """Run a network in evaluation mode; its own mode stays."""
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), plain_attention():
            answers = network.eval()(*batch)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return [answer for answer in tree_leaves(answers) if isinstance(answer, Tensor)]


def _require_same(network: nn.Module, batches: Sequence[Sequence[Tensor]], expected: Sequence[list[Tensor]]) -> None:
    for batch, wanted in zip(batches, expected, strict=True):
        for found, answer in zip(_answers(network, batch), wanted, strict=True):
            if found.shape != answer.shape or _difference(found, answer) > SAME:
                raise UntraceableError("its traced graph gives other answers")


def _difference(found: Tensor, answer: Tensor) -> float:
    """Return the largest difference as a fraction of the largest answer."""
    if answer.numel() == 0:
        return 0.0
    largest = float(answer.double().abs().max())
    return float((found.double() - answer.double()).abs().max()) / max(largest, 1e-12)
