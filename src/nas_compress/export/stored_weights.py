"""Quantized weights as the file stores them: bytes that hold several, which the runtime unpacks once, when it loads.

The exporters leave one node for each weight, `StoredWeight` or `Float8Weight` of the domain DOMAIN. Here these become
ordinary ONNX operators on stored tensors alone, which onnxruntime folds: its graph is that of a file with 8-bit
weights, bit by bit. All weights of one width share one tensor of bytes and the nodes that unpack it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas_compress.export.graph import Array, drop_unread_nodes_, initialisers, replace_nodes_
from nas_compress.export.packing import GROUP, encode, fields, levels, pack, shifts

DOMAIN = "nas_compress"
STORED_WEIGHT = "StoredWeight"
"""int8 (outputs, ...) and scale (outputs,) to float32; attributes `bits` and `computed_as_float`."""
FLOAT8_WEIGHT = "Float8Weight"
"""The bytes of e4m3 floats, uint8 (outputs, ...), and scale (outputs,) to float32."""


@dataclass(frozen=True, kw_only=True)
class _Weight:
    node: onnx.NodeProto
    values: Array
    scale: Array
    bits: int
    computed_as_float: bool

    @property
    def output(self) -> str:
        return str(self.node.output[0])


def store_weights_(graph: onnx.GraphProto) -> None:
    """Replace every node of DOMAIN by ordinary operators that end in the same tensor."""
    store = _Store(graph)
    found, rest = _each_once(graph)
    unpacked: list[onnx.NodeProto] = []
    weights = [_read(node, store) for node in found if node.op_type == STORED_WEIGHT]
    for weight in (weight for weight in weights if weight.bits == 8):
        unpacked += _dequantize(weight, store.keep(f"{weight.output}.integers", weight.values), store)
    groups = sorted({(weight.bits, weight.computed_as_float) for weight in weights if weight.bits < 8})
    for bits, computed_as_float in groups:
        members = [w for w in weights if (w.bits, w.computed_as_float) == (bits, computed_as_float)]
        unpacked += _unpack_together(members, bits, store)
    for node in (node for node in found if node.op_type == FLOAT8_WEIGHT):
        unpacked += _float8(node, store)
    replace_nodes_(graph, unpacked + rest)
    drop_unread_nodes_(graph)


def _each_once(graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """The nodes of DOMAIN, one for each stored weight however many read it, and all other nodes."""
    kept: dict[tuple[str, ...], onnx.NodeProto] = {}
    instead: dict[str, str] = {}
    for node in (node for node in graph.node if node.domain == DOMAIN):
        first = kept.setdefault(tuple(node.input), node)
        instead[node.output[0]] = first.output[0]
    rest = [node for node in graph.node if node.domain != DOMAIN]
    for node in rest:
        for place, name in enumerate(node.input):
            node.input[place] = instead.get(name, name)
    return list(kept.values()), rest


class _Store:
    """The graph's stored tensors; what the unpacking shares is kept once."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph, self._known = graph, initialisers(graph)

    def array(self, name: str) -> Array:
        return numpy_helper.to_array(self._known[name])

    def keep(self, name: str, values: Array) -> str:
        return self.add(numpy_helper.from_array(np.ascontiguousarray(values), name))

    def add(self, tensor: onnx.TensorProto) -> str:
        if tensor.name not in self._known:
            self.graph.initializer.append(tensor)
            self._known[tensor.name] = tensor
        return tensor.name

    def constant(self, values: Sequence[int], kind: type[np.generic]) -> str:
        """A small tensor (n,), named after its content and so stored once."""
        return self.keep(f"{kind.__name__}{list(values)}", np.array(values, dtype=kind))


def _read(node: onnx.NodeProto, store: _Store) -> _Weight:
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    return _Weight(
        node=node,
        values=store.array(node.input[0]),
        scale=store.array(node.input[1]),
        bits=attributes["bits"],
        computed_as_float=bool(attributes["computed_as_float"]),
    )


def _unpack_together(weights: list[_Weight], bits: int, store: _Store) -> list[onnx.NodeProto]:
    """Nodes from one tensor of bytes for each field to every weight of one width."""
    codes = np.concatenate([encode(weight.values, bits) for weight in weights])
    sizes = [weight.values.size for weight in weights]
    kind = np.float32 if weights[0].computed_as_float else np.int8
    name = f"{bits}bits.{kind.__name__}"
    nodes, joined = _join_fields(codes, bits, name, store)
    table = store.keep(f"{name}.levels", np.array(levels(bits), dtype=kind))
    nodes += [
        helper.make_node("Cast", [joined], [f"{name}.index"], to=TensorProto.INT32),
        helper.make_node("Gather", [table, f"{name}.index"], [f"{name}.all"]),
    ]
    flat = [f"{weight.output}.flat" for weight in weights]
    filling = -len(codes) % GROUP
    if filling:
        sizes, flat = [*sizes, filling], [*flat, f"{name}.filling"]
    if len(flat) == 1:
        flat = [f"{name}.all"]
    else:
        nodes.append(helper.make_node("Split", [f"{name}.all", store.constant(sizes, np.int64)], flat, axis=0))
    for weight, part in zip(weights, flat, strict=False):
        shaped = f"{weight.output}.integers"
        nodes.append(helper.make_node("Reshape", [part, store.constant(weight.values.shape, np.int64)], [shaped]))
        nodes += _dequantize(weight, shaped, store)
    return nodes


def _join_fields(codes: Array, bits: int, name: str, store: _Store) -> tuple[list[onnx.NodeProto], str]:
    """Nodes that read each field out of its bytes and put the fields of a code side by side; the codes' name."""
    nodes, joined = [], ""
    for field, part in zip(fields(bits), pack(codes, bits), strict=True):
        stored = store.keep(f"{name}.{field}", part.reshape(-1, 1))
        at = f"{name}.{field}"
        nodes += [
            helper.make_node(
                "BitShift", [stored, store.constant(shifts(field).tolist(), np.uint8)], [f"{at}.low"], direction="RIGHT"
            ),
            helper.make_node("BitwiseAnd", [f"{at}.low", store.constant([2**field - 1], np.uint8)], [f"{at}.rows"]),
            helper.make_node("Reshape", [f"{at}.rows", store.constant([-1], np.int64)], [f"{at}.codes"]),
        ]
        if not joined:
            joined = f"{at}.codes"
            continue
        nodes += [
            helper.make_node(
                "BitShift", [joined, store.constant([field], np.uint8)], [f"{at}.above"], direction="LEFT"
            ),
            helper.make_node("BitwiseOr", [f"{at}.above", f"{at}.codes"], [f"{at}.joined"]),
        ]
        joined = f"{at}.joined"
    return nodes, joined


def _dequantize(weight: _Weight, integers: str, store: _Store) -> list[onnx.NodeProto]:
    """From integers (or, unpacked for float kernels, their floats) to the weight's own tensor."""
    if not weight.computed_as_float:
        half, scale = _half_scale(weight.output, weight.scale, store)
        return [half, helper.make_node("DequantizeLinear", [integers, scale], [weight.output], axis=0)]
    if weight.bits < 8:
        return _scaled(integers, weight.output, weight.scale, weight.values.ndim, store)
    cast = helper.make_node("Cast", [integers], [f"{integers}.float"], to=TensorProto.FLOAT)
    return [cast, *_scaled(f"{integers}.float", weight.output, weight.scale, weight.values.ndim, store)]


def _float8(node: onnx.NodeProto, store: _Store) -> list[onnx.NodeProto]:
    values, output = store.array(node.input[0]), node.output[0]
    tensor = helper.make_tensor(f"{output}.e4m3", TensorProto.FLOAT8E4M3FN, values.shape, values.tobytes(), raw=True)
    cast = helper.make_node("Cast", [store.add(tensor)], [f"{output}.float"], to=TensorProto.FLOAT)
    return [cast, *_scaled(f"{output}.float", output, store.array(node.input[1]), values.ndim, store)]


def _scaled(values: str, output: str, scale: Array, dimensions: int, store: _Store) -> list[onnx.NodeProto]:
    half, name = _half_scale(output, scale.reshape(-1, *[1] * (dimensions - 1)), store)
    return [half, helper.make_node("Mul", [values, name], [output])]


def _half_scale(output: str, scale: Array, store: _Store) -> tuple[onnx.NodeProto, str]:
    """A scale stored in 16 bits, which every scale fits (`arithmetic.usable_scale`), and cast to 32."""
    stored, name = store.keep(f"{output}.half", scale.astype(np.float16)), f"{output}.scale"
    return helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT), name
