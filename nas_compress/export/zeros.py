"""Whole tensors without their zeros: floats and bytes, which no packing has taken."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from nas_compress.export.graph_edits import Array, initialisers, replace_nodes_
from nas_compress.export.shared_rows import split
from nas_compress.export.tensor_store import TensorStore
from nas_compress.export.unpack_nodes import Nodes, Stream, spread

KINDS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8)

TENSOR_NODES = 45
"""Bytes of the node and the shape that give a piece of the row its form."""

SMALLEST_ZEROS = 32
"""Zeros of a tensor for which it is looked at."""


def leave_out_zeros_(graph: onnx.GraphProto) -> None:
    """Keep the zeros of stored matrices and kernels of one type as a mask or as gaps, where that takes fewer bytes."""
    store = TensorStore(graph)
    read = {name for node in graph.node for name in node.input}
    stored = [tensor for name, tensor in initialisers(graph).items() if name in read]
    nodes: Nodes = []
    for kind in KINDS:
        nodes += _together(graph, [tensor for tensor in stored if tensor.data_type == kind], store)
    replace_nodes_(graph, nodes + list(graph.node))


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
    """Whether a mask would be smaller than this tensor's own zeros."""
    zeros = int(values.size - np.count_nonzero(values))
    return zeros >= SMALLEST_ZEROS and zeros * values.itemsize > values.size / 8 + TENSOR_NODES
