"""Storage of quantized weights: several per byte, unpacked once by the runtime at load time.

The exporters leave one node per weight, `StoredWeight` or `Float8Weight` of the domain DOMAIN. This module replaces
them by standard ONNX operators on stored tensors alone. onnxruntime folds these into the same graph, bit by bit, as
that of a file with 8-bit weights. All weights of one width share a tensor of bytes and its unpacking nodes; a layer
with a codebook of its own looks its weights up there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas_compress.export.bit_packing import encode, levels, packed_bytes, zero_first
from nas_compress.export.graph_edits import (
    Array,
    drop_unread_nodes_,
    every_graph,
    initialisers,
    read_names,
    rename_inputs_,
    replace_nodes_,
)
from nas_compress.export.sparse_encoding import Form
from nas_compress.export.unpack_nodes import Nodes, Stream, TensorStore, split, spread
from nas_compress.export.weight_formats import Layout

DOMAIN = "nas_compress"
STORED_WEIGHT = "StoredWeight"
"""int8 (outputs, ...), scale (outputs,) and codebook, int8 (2^bits,) or (0,), to float32; attributes `bits` and
`computed_as_float`."""
FLOAT8_WEIGHT = "Float8Weight"
"""The bytes of e4m3 floats, uint8 (outputs, ...), and scale (outputs,) to float32."""

NEGATIVE_ZERO = 0x80
"""The byte of the e4m3 float -0."""

SPARSE_KINDS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8)

TENSOR_NODES = 45
"""Bytes of the node and the shape that restore one tensor from the row."""

SMALLEST_ZEROS = 32
"""Least number of zeros in a tensor for a sparse format."""


@dataclass(frozen=True, kw_only=True)
class _Weight:
    node: onnx.NodeProto
    values: Array
    scale: Array
    codebook: tuple[int, ...]
    bits: int
    computed_as_float: bool

    @property
    def output(self) -> str:
        return str(self.node.output[0])

    @property
    def table(self) -> tuple[int, ...]:
        """The integer of each code."""
        return self.codebook or levels(self.bits)

    @property
    def group(self) -> tuple[int, bool, bool]:
        """Weights with equal groups are unpacked together."""
        return self.bits, self.computed_as_float, bool(self.codebook)


def store_weights_(graph: onnx.GraphProto, layout: Layout) -> None:
    """Replace every stored weight by standard operators with the same output, inside the branch that has it.

    The runtime would take a weight outside for a computed tensor and run the unpacking and slower kernels.
    """
    for part in every_graph(graph):
        _store_weights_(part, layout)
    drop_unread_nodes_(graph)


def _store_weights_(graph: onnx.GraphProto, layout: Layout) -> None:
    store = TensorStore(graph)
    found, rest = _each_once(graph)
    unpacked: Nodes = []
    weights = [_read(node, store) for node in found if node.op_type == STORED_WEIGHT]
    packed = [weight for weight in weights if weight.bits < 8 and layout.integers == "packed"]
    for weight in (weight for weight in weights if weight not in packed):
        unpacked += _whole(weight, layout, store)
    for group in sorted({weight.group for weight in packed}):
        members = [weight for weight in packed if weight.group == group]
        unpacked += _unpack_together(members, layout, store)
    unpacked += _float8_weights([node for node in found if node.op_type == FLOAT8_WEIGHT], layout, store)
    replace_nodes_(graph, unpacked + rest)


def leave_out_zeros_(graph: onnx.GraphProto) -> None:
    """Store matrices and kernels of one type and branch as masks or gaps if that takes fewer bytes."""
    for part in every_graph(graph):
        _leave_out_zeros_(part)


def _leave_out_zeros_(graph: onnx.GraphProto) -> None:
    store = TensorStore(graph)
    read = {name for node in graph.node for name in read_names(node)}
    stored = [tensor for name, tensor in initialisers(graph).items() if name in read]
    nodes: Nodes = []
    for kind in SPARSE_KINDS:
        nodes += _together(graph, [tensor for tensor in stored if tensor.data_type == kind], store)
    replace_nodes_(graph, nodes + list(graph.node))


def _each_once(graph: onnx.GraphProto) -> tuple[Nodes, Nodes]:
    """Return one node of DOMAIN per stored weight, even with several readers, and all other nodes."""
    kept: dict[tuple[str, ...], onnx.NodeProto] = {}
    instead: dict[str, str] = {}
    for node in (node for node in graph.node if _is_weight(node)):
        first = kept.setdefault(tuple(node.input), node)
        instead[node.output[0]] = first.output[0]
    rest = [node for node in graph.node if not _is_weight(node)]
    for node in rest:
        rename_inputs_(node, instead)
    return list(kept.values()), rest


def _is_weight(node: onnx.NodeProto) -> bool:
    return bool(node.domain == DOMAIN and node.op_type in (STORED_WEIGHT, FLOAT8_WEIGHT))


def _read(node: onnx.NodeProto, store: TensorStore) -> _Weight:
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    return _Weight(
        node=node,
        values=store.array(node.input[0]),
        scale=store.array(node.input[1]),
        codebook=zero_first(store.array(node.input[2]).tolist()),
        bits=attributes["bits"],
        computed_as_float=bool(attributes["computed_as_float"]),
    )


def _whole(weight: _Weight, layout: Layout, store: TensorStore) -> Nodes:
    """Store each integer in its own byte, or as its float."""
    if layout.integers != "floats":
        return _dequantize(weight, store.keep(f"{weight.output}.integers", weight.values), store)
    scale = weight.scale.reshape(-1, *[1] * (weight.values.ndim - 1))
    store.keep(weight.output, weight.values.astype(np.float32) * scale)
    return []


def _unpack_together(weights: list[_Weight], layout: Layout, store: TensorStore) -> Nodes:
    """Return nodes from one row of codes to every weight of one width."""
    bits, computed_as_float, has_codebooks = weights[0].group
    kind = np.float32 if computed_as_float else np.int8
    name = f"{bits}bits.{kind.__name__}{'.codebook' if has_codebooks else ''}"
    codes = np.concatenate([encode(weight.values, weight.table) for weight in weights])
    stream = Stream(name=name, values=codes, bits=bits)
    dense = Form(kind="dense", size_bytes=packed_bytes(len(codes), bits))
    nodes, row, around = spread(stream, stream.form if layout.sparse else dense, store)
    nodes.append(helper.make_node("Cast", [row], [f"{name}.index"], to=TensorProto.INT32))
    row = f"{name}.index"
    if not has_codebooks:
        table = store.keep(f"{name}.levels", np.array(levels(bits), dtype=kind))
        nodes.append(helper.make_node("Gather", [table, row], [f"{name}.all"]))
        row = f"{name}.all"
    flat = [f"{weight.output}.flat" for weight in weights]
    cut, flat = split(row, [weight.values.size for weight in weights], flat, around, store)
    nodes += cut
    for weight, part in zip(weights, flat, strict=True):
        shaped = f"{weight.output}.shaped"
        nodes.append(helper.make_node("Reshape", [part, store.constant(weight.values.shape, np.int64)], [shaped]))
        if has_codebooks:
            table = store.keep(f"{weight.output}.codebook", np.array(weight.codebook, dtype=kind))
            nodes.append(helper.make_node("Gather", [table, shaped], [f"{weight.output}.integers"]))
            shaped = f"{weight.output}.integers"
        nodes += _dequantize(weight, shaped, store, is_float=computed_as_float)
    return nodes


def _dequantize(weight: _Weight, integers: str, store: TensorStore, *, is_float: bool = False) -> Nodes:
    """Return nodes from integers (or their floats if `is_float`) to the weight's own tensor."""
    if not weight.computed_as_float:
        half, scale = _half_scale(weight.output, weight.scale, store)
        return [half, helper.make_node("DequantizeLinear", [integers, scale], [weight.output], axis=0)]
    if is_float:
        return _scaled(integers, weight.output, weight.scale, weight.values.ndim, store)
    cast = helper.make_node("Cast", [integers], [f"{integers}.float"], to=TensorProto.FLOAT)
    return [cast, *_scaled(f"{integers}.float", weight.output, weight.scale, weight.values.ndim, store)]


def _float8_weights(nodes: Nodes, layout: Layout, store: TensorStore) -> Nodes:
    """Store e4m3 floats per weight, in one row without zeros if that is smaller, or as float32."""
    if layout.integers == "floats":
        return [made for node in nodes for made in _float8(node, store, as_float32=True)]
    codes = [_without_negative_zeros(store.array(node.input[0])) for node in nodes]
    if not (layout.sparse and nodes):
        return [made for node in nodes for made in _float8(node, store)]
    row = np.concatenate([values.reshape(-1) for values in codes])
    stream = Stream(name="float8", values=row, bits=8, float8=True)
    if stream.form.kind == "dense":
        return [made for node in nodes for made in _float8(node, store)]
    made, name, around = spread(stream, stream.form, store)
    flat = [f"{node.output[0]}.flat" for node in nodes]
    cut, flat = split(name, [values.size for values in codes], flat, around, store)
    made += cut
    for node, part, values in zip(nodes, flat, codes, strict=True):
        output = node.output[0]
        shape = store.constant(values.shape, np.int64)
        made.append(helper.make_node("Reshape", [part, shape], [f"{output}.float"]))
        made += _scaled(f"{output}.float", output, store.array(node.input[1]), values.ndim, store)
    return made


def _without_negative_zeros(codes: Array) -> Array:
    """Replace -0, made by masking a weight below 0, by 0 in bytes of e4m3 floats."""
    return np.where(codes == NEGATIVE_ZERO, 0, codes).astype(np.uint8)


def _float8(node: onnx.NodeProto, store: TensorStore, *, as_float32: bool = False) -> Nodes:
    values, output = store.array(node.input[0]), node.output[0]
    kind = TensorProto.FLOAT8E4M3FN
    tensor = helper.make_tensor(f"{output}.e4m3", kind, values.shape, values.tobytes(), raw=True)
    if as_float32:
        floats = numpy_helper.to_array(tensor).astype(np.float32)
        return _scaled(store.keep(f"{output}.float", floats), output, store.array(node.input[1]), values.ndim, store)
    cast = helper.make_node("Cast", [store.add(tensor)], [f"{output}.float"], to=TensorProto.FLOAT)
    return [cast, *_scaled(f"{output}.float", output, store.array(node.input[1]), values.ndim, store)]


def _scaled(values: str, output: str, scale: Array, dimensions: int, store: TensorStore) -> Nodes:
    half, name = _half_scale(output, scale.reshape(-1, *[1] * (dimensions - 1)), store)
    return [half, helper.make_node("Mul", [values, name], [output])]


def _half_scale(output: str, scale: Array, store: TensorStore) -> tuple[onnx.NodeProto, str]:
    """Store a scale in 16 bits, exact by `arithmetic.usable_scale`, and cast it to 32."""
    stored, name = store.keep(f"{output}.half", scale.astype(np.float16)), f"{output}.scale"
    return helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT), name


def _together(graph: onnx.GraphProto, tensors: list[onnx.TensorProto], store: TensorStore) -> Nodes:
    arrays = {tensor.name: store.array(tensor.name) for tensor in tensors if len(tensor.dims) > 1}
    arrays = {name: values for name, values in arrays.items() if _saves(values)}
    if not arrays:
        return []
    row = np.concatenate([values.reshape(-1) for values in arrays.values()])
    stream = Stream(name=f"sparse.{row.dtype.name}", values=row, bits=8 * row.itemsize)
    if stream.form.size_bytes + TENSOR_NODES * len(arrays) >= row.nbytes:
        return []
    nodes, name, around = spread(stream, stream.form, store)
    names, sizes = [f"{name}.flat" for name in arrays], [values.size for values in arrays.values()]
    cut, flat = split(name, sizes, names, around, store)
    nodes += cut
    for (output, values), part in zip(arrays.items(), flat, strict=True):
        nodes.append(helper.make_node("Reshape", [part, store.constant(values.shape, np.int64)], [output]))
    for tensor in tensors:
        if tensor.name in arrays:
            graph.initializer.remove(tensor)
    return nodes


def _saves(values: Array) -> bool:
    """Return True if a mask would be smaller than this tensor's own zeros."""
    zeros = int(values.size - np.count_nonzero(values))
    return zeros >= SMALLEST_ZEROS and zeros * values.itemsize > values.size / 8 + TENSOR_NODES
