"""One graph of a network for training and for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from nas_compress.errors import UntraceableError
from nas_compress.models.unfused_attention import plain_attention
from nas_compress.quantization.traced.tracer import RESULTS, ValueTracer

MODE = "training"
"""Attribute of a module that is True in training."""

MADE = "_tensor_constant"
"""Beginning of the names of tensors that a network makes while it is recorded, by torch.fx."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The graph of a network. parts: last node of each module that is recorded by its parts, by path."""

    graph: fx.Graph
    parts: dict[str, fx.Node]


def by_mode(training: bool, in_training: Any, in_evaluation: Any) -> Any:
    """Return one of two constants of the network, such as a dropout rate."""
    return in_training if training else in_evaluation


def record(network: nn.Module, inputs: Sequence[Sequence[Tensor]]) -> Recorded:
    """Record a network in both modes; its own mode, its buffers and torch's random state stay.

    inputs: tensors of two batches of different size. UntraceableError if its modes run other operations.
    """
    tracers, graphs = [], []
    for training in (True, False):
        tracer = ValueTracer(inputs)
        with _in_mode(network, training=training), plain_attention():
            graphs.append(tracer.record(network))
        tracers.append(tracer)
        if training:  # so that both graphs give tensors made by the network the same names
            for name in [name for name in vars(network) if name.startswith(MADE)]:
                delattr(network, name)
    _join_(graphs[1], graphs[0])
    return Recorded(graph=graphs[1], parts=tracers[1].outputs_of)


@contextmanager
def _in_mode(network: nn.Module, *, training: bool) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        network.train(training)
        yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for module, mode in modes.items():
            module.training = mode


def _join_(evaluation: fx.Graph, training: fx.Graph) -> None:
    """Let constants that differ between the modes depend on the mode."""
    pairs = list(zip(evaluation.nodes, training.nodes, strict=False))
    different = [one for one, other in pairs if (one.op, one.target) != (other.op, other.target)]
    if different or len(evaluation.nodes) != len(training.nodes):
        where = f" ({different[0].name})" if different else ""
        raise UntraceableError(f"it runs other operations in training than in evaluation{where}")
    for one, other in pairs:
        if str(one.target).startswith(MADE) and not torch.equal(one.meta[RESULTS][0], other.meta[RESULTS][0]):
            raise UntraceableError("it makes other tensors in training than in evaluation")
        one.args = _joined(evaluation, one, one.args, other.args)
        one.kwargs = _joined(evaluation, one, one.kwargs, other.kwargs)


def _joined(graph: fx.Graph, node: fx.Node, one: Any, other: Any) -> Any:
    if isinstance(one, fx.Node) or isinstance(other, fx.Node):
        if not isinstance(one, fx.Node) or not isinstance(other, fx.Node) or one.name != other.name:
            raise UntraceableError("it connects operations in training otherwise than in evaluation")
        return one
    if isinstance(one, tuple | list) and isinstance(other, tuple | list) and len(one) == len(other):
        return type(one)(_joined(graph, node, *pair) for pair in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return {key: _joined(graph, node, one[key], other[key]) for key in one}
    if one == other:
        return one
    with graph.inserting_before(node):
        return graph.call_function(by_mode, (graph.get_attr(MODE), other, one))
