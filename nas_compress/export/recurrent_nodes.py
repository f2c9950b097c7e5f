"""Recurrent layers as ONNX nodes with the lengths of the sequences.

The exporters leave one node per layer, `Recurrent` of the domain DOMAIN. They cannot export packed sequences of every
cell themselves, and without lengths a backward cell would start in the padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from nas_compress.export.graph_edits import Array, drop_unread_nodes_, every_graph, makers, read_names, replace_nodes_
from nas_compress.export.lower_stored_weights import DOMAIN, FLOAT8_WEIGHT, STORED_WEIGHT
from nas_compress.export.unpack_nodes import Nodes, TensorStore

RECURRENT = "Recurrent"
"""States (T, N, E), lengths int32 (N,) if `has_lengths`, then four tensors per direction, to all states (T, N, D * H)
and the last ones (N, D * H); attributes `cell`, `has_lengths` and `integer`."""

RUNTIME_DOMAIN = "com.microsoft"
"""Domain of onnxruntime's own operators, such as DynamicQuantizeLSTM."""

OPERATORS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
"""ONNX operators by cell."""

GATES: Mapping[str, tuple[int, ...]] = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""Place of each ONNX gate in torch's order: input, output, forget, cell; update, reset, hidden."""

PER_DIRECTION = 4
"""Tensors of a direction: weights of the inputs, weights of the state, and the bias of each."""

BY_ROW: Mapping[str, tuple[int, ...]] = {STORED_WEIGHT: (0, 1), FLOAT8_WEIGHT: (0, 1), "Cast": (0,)}
"""Inputs with one row per output of operators that restore a stored tensor."""


def order_gates_(graph: onnx.GraphProto) -> None:
    """Let every recurrent layer of DOMAIN read tensors with ONNX's order of gates, before weights are packed."""
    for part in every_graph(graph):
        if any(map(_is_recurrent, part.node)):
            _order_gates_(part)
    drop_unread_nodes_(graph)


def _order_gates_(graph: onnx.GraphProto) -> None:
    gates = _Tensors(graph)
    nodes: Nodes = []
    for node in graph.node:
        if _is_recurrent(node):
            layer = _read(node)
            first = len(node.input) - PER_DIRECTION * len(layer.directions)
            for place in range(first, len(node.input)):
                node.input[place] = gates.reordered(node.input[place], layer.cell, nodes)
        nodes.append(node)
    replace_nodes_(graph, nodes)


def write_recurrent_nodes_(graph: onnx.GraphProto) -> None:
    """Replace every recurrent layer of DOMAIN by operators of the runtime with the same outputs."""
    for part in every_graph(graph):
        if any(map(_is_recurrent, part.node)):
            _write_recurrent_nodes_(part)
    drop_unread_nodes_(graph)


def _write_recurrent_nodes_(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in read_names(node)} | {value.name for value in graph.output}
    tensors, nodes = _Tensors(graph), list[onnx.NodeProto]()
    for node in graph.node:
        if _is_recurrent(node):
            nodes += _written(_read(node), tensors, read)
        else:
            nodes.append(node)
    replace_nodes_(graph, nodes)


def _is_recurrent(node: onnx.NodeProto) -> bool:
    return bool(node.domain == DOMAIN and node.op_type == RECURRENT)


@dataclass(frozen=True, kw_only=True)
class _Layer:
    cell: str
    values: str
    lengths: str
    directions: Sequence[Sequence[str]]
    integer: bool
    states: str
    last: str


def _read(node: onnx.NodeProto) -> _Layer:
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    first = 1 + attributes["has_lengths"]
    tensors = list(node.input[first:])
    return _Layer(
        cell=attributes["cell"].decode(),
        values=node.input[0],
        lengths=node.input[1] if first > 1 else "",
        directions=[tensors[start : start + PER_DIRECTION] for start in range(0, len(tensors), PER_DIRECTION)],
        integer=bool(attributes["integer"]),
        states=node.output[0],
        last=node.output[1],
    )


class _Tensors:
    """Reorders the gates of stored tensors and joins those of two directions."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._store, self._makers = TensorStore(graph), makers(graph)
        self._stored = {tensor.name for tensor in graph.initializer}
        self._made: set[str] = set()

    def constant(self, values: Sequence[int]) -> str:
        """Store sizes or axes, int64 (n,)."""
        return self._store.constant(values, np.int64)

    def rows(self, name: str) -> int:
        """Return the rows of a tensor, as its stored form or its scale shows them."""
        while name not in self._stored:
            maker = self._makers[name]
            name = maker.input[1 if maker.op_type in ("DequantizeLinear", "Mul") else 0]
        return len(self._store.array(name))

    def reordered(self, name: str, cell: str, nodes: Nodes) -> str:
        """Return a tensor (gates * H, ...) with its gates in ONNX's order; its stored form is reordered, if it can."""
        order, at = GATES[cell], f"{name}//{cell}"
        if len(order) == 1:
            return name
        if at in self._made:
            return at
        self._made.add(at)
        if name in self._stored:
            values = self._store.array(name)
            blocks = values.reshape(len(order), -1, *values.shape[1:])
            return self._keep(at, blocks[list(order)].reshape(values.shape))
        maker = self._makers[name]
        places = BY_ROW.get(maker.op_type, ())
        if places and all(maker.input[place] in self._stored for place in places):
            copy = onnx.NodeProto()
            copy.CopyFrom(maker)
            for place in places:
                copy.input[place] = self.reordered(maker.input[place], cell, nodes)
            copy.output[0] = at
            nodes.append(copy)
            return at
        size = self.rows(name) // len(order)
        index = np.concatenate([np.arange(size) + size * gate for gate in order])
        nodes.append(helper.make_node("Gather", [name, self.constant(index.tolist())], [at], axis=0))
        return at

    def stacked(self, names: Sequence[str], at: str, nodes: Nodes) -> str:
        """Return tensors of equal shape along a new first dimension."""
        if self._stored.issuperset(names):
            return self._keep(at, np.stack([self._store.array(name) for name in names]))
        single = [f"{at}.{number}" for number in range(len(names))] if len(names) > 1 else [at]
        axis = self.constant([0])
        nodes += [helper.make_node("Unsqueeze", [name, axis], [one]) for name, one in zip(names, single, strict=True)]
        if len(names) > 1:
            nodes.append(helper.make_node("Concat", single, [at], axis=0))
        return at

    def joined(self, names: Sequence[str], at: str, nodes: Nodes) -> str:
        """Return tensors one behind the other."""
        if self._stored.issuperset(names):
            return self._keep(at, np.concatenate([self._store.array(name) for name in names]))
        nodes.append(helper.make_node("Concat", list(names), [at], axis=0))
        return at

    def turned(self, name: str, nodes: Nodes) -> str:
        """Return the transpose of a matrix."""
        at = f"{name}//turned"
        if name in self._stored:
            return self._keep(at, self._store.array(name).T)
        nodes.append(helper.make_node("Transpose", [name], [at], perm=[1, 0]))
        return at

    def dequantized(self, name: str) -> tuple[str, str] | None:
        """Return the integers and the scales of a matrix; None if it is of floats."""
        maker = self._makers.get(name)
        return (maker.input[0], maker.input[1]) if maker is not None and maker.op_type == "DequantizeLinear" else None

    def zeros(self, shape: tuple[int, ...]) -> str:
        """Store int8 zeros of this shape, once."""
        return self._keep(f"zeros{list(shape)}", np.zeros(shape, dtype=np.int8))

    def _keep(self, name: str, values: Array) -> str:
        self._stored.add(name)
        return self._store.keep(name, values)


def _written(layer: _Layer, tensors: _Tensors, read: set[str]) -> Nodes:
    nodes: Nodes = []
    at = layer.states
    weights = [[direction[place] for direction in layer.directions] for place in (0, 1)]
    sources = [[tensors.dequantized(name) for name in names] for names in weights]
    integers = [[source for source in group if source is not None] for group in sources]
    is_integer = layer.integer and integers == sources  # else the layout stores floats
    biases = [
        tensors.joined(direction[2:], f"{at}.bias{number}", nodes) for number, direction in enumerate(layer.directions)
    ]
    if is_integer:
        matrices = []
        for kind, group in zip("WR", integers, strict=True):
            turned = [tensors.turned(name, nodes) for name, _ in group]
            matrices.append(tensors.stacked(turned, f"{at}.{kind}", nodes))
    else:
        matrices = [tensors.stacked(names, f"{at}.{kind}", nodes) for kind, names in zip("WR", weights, strict=True)]
    inputs = [layer.values, *matrices, tensors.stacked(biases, f"{at}.B", nodes), layer.lengths]
    if is_integer:
        inputs += ["", "", ""]  # first states, peepholes
        for kind, group in zip("WR", integers, strict=True):
            scale = tensors.stacked([scale for _, scale in group], f"{at}.{kind}.scale", nodes)
            inputs += [scale, tensors.zeros((len(group), tensors.rows(weights[0][0])))]
    outputs = [f"{name}.apart" if name in read else "" for name in (layer.states, layer.last)]
    options: dict[str, Any] = {"linear_before_reset": 1} if layer.cell == "gru" else {}
    two = len(layer.directions) == 2
    node = helper.make_node(
        f"DynamicQuantize{OPERATORS[layer.cell]}" if is_integer else OPERATORS[layer.cell],
        inputs if inputs[-1] else inputs[:-1],
        outputs if outputs[1] else outputs[:1],
        domain=RUNTIME_DOMAIN if is_integer else "",
        hidden_size=tensors.rows(weights[0][0]) // len(GATES[layer.cell]),
        direction="bidirectional" if two else "forward",
        **options,
    )
    nodes.append(node)
    if outputs[0]:  # (T, D, N, H)
        nodes += _merged(layer.states, outputs[0], axis=1, two=two, tensors=tensors)
    if outputs[1]:  # (D, N, H)
        nodes += _merged(layer.last, outputs[1], axis=0, two=two, tensors=tensors)
    return nodes


def _merged(name: str, apart: str, *, axis: int, two: bool, tensors: _Tensors) -> Nodes:
    """Return nodes that put the states of both directions behind each other. axis: of the directions."""
    if not two:
        return [helper.make_node("Squeeze", [apart, tensors.constant([axis])], [name])]
    permutation = [*range(axis), axis + 1, axis, axis + 2]
    shape = tensors.constant([0] * (axis + 1) + [-1])
    return [
        helper.make_node("Transpose", [apart], [f"{name}.turned"], perm=permutation),
        helper.make_node("Reshape", [f"{name}.turned", shape], [name]),
    ]
