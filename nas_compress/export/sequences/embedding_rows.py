"""Tables of embeddings with few bits: the file reads rows of bytes and unpacks these rows alone.

The exporters leave one node per table, `StoredRows` of the domain DOMAIN. Unpacking nodes in front of the look-up would
be folded when the file is loaded, into a table of floats in memory, or would unpack the whole table in each run.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from nas_compress.export.bit_packing import GROUP
from nas_compress.export.graph_edits import Array, every_graph, replace_nodes_
from nas_compress.export.layout import Layout
from nas_compress.export.lower_stored_weights import DOMAIN
from nas_compress.export.unpack_nodes import Nodes, TensorStore

STORED_ROWS = "StoredRows"
"""Ids (...), int8 (rows, width) and scale (rows,) to float32 (..., width); attribute `bits`."""

FIELDS = (1, 2, 4)
"""Bits of a code in a byte; other widths take the next larger field, or a byte."""


def store_rows_(graph: onnx.GraphProto, layout: Layout) -> None:
    """Replace every look-up of DOMAIN by standard operators with the same output, also in branches."""
    for part in every_graph(graph):
        if any(map(_is_lookup, part.node)):
            store, nodes = TensorStore(part), list[onnx.NodeProto]()
            for node in part.node:
                nodes += _written(node, layout, store) if _is_lookup(node) else [node]
            replace_nodes_(part, nodes)


def row_bits(bits: int) -> int:
    """Return the bits that the file has for a number of `bits` bits in a row.

    >>> [row_bits(bits) for bits in (8, 6, 4, 3, 1)]
    [8, 8, 4, 4, 1]
    """
    return next((field for field in FIELDS if bits <= field), 8)


def pack_rows(integers: Array, bits: int) -> tuple[Array, float]:
    """Return codes uint8 (rows, bytes), with a field of each byte for one stretch of columns, and the code of 0.

    Stretch k of the columns is in the k-th lowest field. integers: int8 (rows, width). bits: one of FIELDS. The integer
    of a code is the code less that of 0; for one bit, twice that.

    >>> pack_rows(np.array([[-8, 7, 0]], dtype=np.int8), 4)
    (array([[128,  15]], dtype=uint8), 8.0)
    """
    step, zero = (2, 0.5) if bits == 1 else (1, float(2 ** (bits - 1)))
    codes = (integers.astype(np.float32) / step + zero).astype(np.uint8)
    parts = GROUP // bits
    filled = np.pad(codes, ((0, 0), (0, -codes.shape[1] % parts)))
    stretches = np.split(filled, parts, axis=1)
    packed = np.zeros_like(stretches[0])
    for place, stretch in enumerate(stretches):
        packed |= stretch << (place * bits)
    return packed, zero


def _is_lookup(node: onnx.NodeProto) -> bool:
    return bool(node.domain == DOMAIN and node.op_type == STORED_ROWS)


def _written(node: onnx.NodeProto, layout: Layout, store: TensorStore) -> Nodes:
    ids, output = node.input[0], node.output[0]
    integers, scale = store.array(node.input[1]), store.array(node.input[2])
    bits = row_bits(next(attribute.i for attribute in node.attribute if attribute.name == "bits"))
    if layout.integers == "floats":
        table = store.keep(f"{output}.table", integers.astype(np.float32) * scale[:, None])
        return [helper.make_node("Gather", [table, ids], [output])]
    if bits == 1 and not integers.all():
        bits = 2  # 0 is no sign
    if layout.integers == "bytes":
        bits = 8
    factor = store.keep(f"{output}.half", (scale * (2 if bits == 1 else 1)).astype(np.float16)[:, None])
    nodes = [
        helper.make_node("Gather", [factor, ids], [f"{output}.halves"]),
        helper.make_node("Cast", [f"{output}.halves"], [f"{output}.scale"], to=TensorProto.FLOAT),
    ]
    if bits == 8:
        table = store.keep(f"{output}.rows", integers)
        nodes += [
            helper.make_node("Gather", [table, ids], [f"{output}.integers"]),
            helper.make_node("Cast", [f"{output}.integers"], [f"{output}.floats"], to=TensorProto.FLOAT),
        ]
    else:
        nodes += _unpacked(output, ids, integers, bits, store)
    return [*nodes, helper.make_node("Mul", [f"{output}.floats", f"{output}.scale"], [output])]


def _unpacked(output: str, ids: str, integers: Array, bits: int, store: TensorStore) -> Nodes:
    """Return nodes from ids to the integers of their rows, as floats."""
    packed, zero = pack_rows(integers, bits)
    parts, width = GROUP // bits, integers.shape[1]
    table = store.keep(f"{output}.rows", packed)
    nodes = [helper.make_node("Gather", [table, ids], [f"{output}.bytes"])]
    mask = store.constant([2**bits - 1], np.uint8)
    names = []
    for place in range(parts):
        name = f"{output}.bytes"
        if place:
            shift = store.constant([place * bits], np.uint8)
            nodes.append(helper.make_node("BitShift", [name, shift], [f"{output}.low{place}"], direction="RIGHT"))
            name = f"{output}.low{place}"
        if place < parts - 1:  # the highest field has nothing above it
            nodes.append(helper.make_node("BitwiseAnd", [name, mask], [f"{output}.field{place}"]))
            name = f"{output}.field{place}"
        names.append(name)
    codes = f"{output}.codes"
    nodes.append(helper.make_node("Concat", names, [codes], axis=-1))
    if width % parts:
        ends = [store.constant([end], np.int64) for end in (0, width, -1)]
        nodes.append(helper.make_node("Slice", [codes, *ends], [f"{output}.cut"]))
        codes = f"{output}.cut"
    # one operator for the conversion and the shift of the codes
    if bits > 1:
        unit = store.keep("one", np.array(1, dtype=np.float32))
        middle = store.keep(f"middle{bits}", np.array(zero, dtype=np.uint8))
        return [*nodes, helper.make_node("DequantizeLinear", [codes, unit, middle], [f"{output}.floats"])]
    half = store.keep("half", np.array(zero, dtype=np.float32))
    return [
        *nodes,
        helper.make_node("Cast", [codes], [f"{output}.shifted"], to=TensorProto.FLOAT),
        helper.make_node("Sub", [f"{output}.shifted", half], [f"{output}.floats"]),
    ]
