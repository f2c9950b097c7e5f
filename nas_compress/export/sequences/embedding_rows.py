"""Tables of embeddings with few bits: the file reads rows of bytes and unpacks these rows alone.

The exporters leave one node per table, `StoredRows` of the domain DOMAIN. Unpacking nodes in front of the look-up would
be folded when the file is loaded, into a table of floats in memory, or would unpack the whole table in each run.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from nas_compress.export.bit_packing import GROUP
from nas_compress.export.graph_edits import (
    Array,
    drop_unread_nodes_,
    every_graph,
    makers,
    replace_nodes_,
    stored_values,
)
from nas_compress.export.lower_stored_weights import DOMAIN, STORED_WEIGHT
from nas_compress.export.unpack_nodes import Nodes, TensorStore
from nas_compress.export.weight_formats import Layout

STORED_ROWS = "StoredRows"
"""Ids (...), int8 (rows, width) and scale (rows,) to float32 (..., width); attributes `bits`, and `dimensions` of the
ids."""

FIELDS = (1, 2, 4)
"""Bits of a code in a byte; other widths take the next larger field, or a byte."""


def slice_whole_tables_(graph: onnx.GraphProto) -> None:
    """Write a look-up of the first rows in order, as of positions, as a part of a stored weight, also in branches.

    A long text reads most of such a table, which is small. The runtime unpacks it when it loads the file.
    """
    for part in every_graph(graph):
        made_by, store, nodes = makers(part), TensorStore(part), list[onnx.NodeProto]()
        for node in part.node:
            count = _first_rows(node, made_by, part) if _is_lookup(node) else None
            nodes += [node] if count is None else _sliced(node, count, store)
        if len(nodes) > len(part.node):
            replace_nodes_(part, nodes)
            drop_unread_nodes_(part)


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


def pack_rows(integers: Array, bits: int) -> tuple[Array, int]:
    """Return codes uint8 (rows, bytes), with a field of each byte for one stretch of columns, and the code of 0.

    Stretch k of the columns is in the k-th lowest field. integers: int8 (rows, width). bits: one of FIELDS. The integer
    of a code is the code less that of 0. The single bit of a sign is 1 for a positive one; there is no code of 0.

    >>> pack_rows(np.array([[-8, 7, 0]], dtype=np.int8), 4)
    (array([[128,  15]], dtype=uint8), 8)
    """
    zero = 0 if bits == 1 else 2 ** (bits - 1)
    codes = (integers > 0 if bits == 1 else integers.astype(np.int16) + zero).astype(np.uint8)
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
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    bits = row_bits(attributes["bits"])
    if layout.integers == "floats":
        table = store.keep(f"{output}.table", integers.astype(np.float32) * scale[:, None])
        return [helper.make_node("Gather", [table, ids], [output])]
    if bits == 1:
        # 0 is no sign, but a row of zeros, as of padding, has signs and the scale 0
        empty: Array = np.abs(integers).max(axis=1) == 0
        integers, scale = np.where(empty[:, None], 1, integers).astype(np.int8), np.where(empty, 0, scale)
        bits = 1 if integers.all() else 2
    if layout.integers == "bytes" or bits == 8:
        table = store.keep(f"{output}.rows", integers)
        return [
            *_scale(output, ids, scale[:, None], store),
            helper.make_node("Gather", [table, ids], [f"{output}.integers"]),
            helper.make_node("Cast", [f"{output}.integers"], [f"{output}.floats"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{output}.floats", f"{output}.scale"], [output]),
        ]
    return _unpacked(node, integers, scale, bits=bits, dimensions=attributes["dimensions"], store=store)


def _first_rows(node: onnx.NodeProto, made_by: Mapping[str, onnx.NodeProto], graph: onnx.GraphProto) -> str | None:
    """Return the number of rows of a look-up of 0, 1, 2, ...; None for other ids."""
    ids = made_by.get(node.input[0])
    if ids is None or ids.op_type != "Range":
        return None
    start, step = (stored_values(graph, ids.input[place]) for place in (0, 2))
    counts = start is not None and step is not None and not start.any() and bool((step == 1).all())
    return str(ids.input[1]) if counts else None


def _sliced(node: onnx.NodeProto, count: str, store: TensorStore) -> Nodes:
    output, bits = node.output[0], next(attribute.i for attribute in node.attribute if attribute.name == "bits")
    if bits == 1 and not store.array(node.input[1]).all():
        bits = 2  # 0 is no sign
    codebook = store.keep("no codebook", np.zeros(0, dtype=np.int8))
    start, axis = store.constant([0], np.int64), store.constant([0], np.int64)
    return [
        helper.make_node(
            STORED_WEIGHT,
            [*node.input[1:3], codebook],
            [f"{output}.whole"],
            domain=DOMAIN,
            bits=bits,
            computed_as_float=1,
        ),
        helper.make_node("Reshape", [count, store.constant([1], np.int64)], [f"{output}.count"]),
        helper.make_node("Slice", [f"{output}.whole", start, f"{output}.count", axis], [output]),
    ]


def _scale(output: str, ids: str, scale: Array, store: TensorStore) -> Nodes:
    """Return nodes for the scale of each row. The runtime makes floats of all scales when it loads the file."""
    halves = store.keep(f"{output}.half", scale.astype(np.float16))
    return [
        helper.make_node("Cast", [halves], [f"{output}.scales"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{output}.scales", ids], [f"{output}.scale"]),
    ]


def _unpacked(
    node: onnx.NodeProto, integers: Array, scale: Array, *, bits: int, dimensions: int, store: TensorStore
) -> Nodes:
    """Return nodes from ids to their rows.

    One operator masks all fields of a byte, (..., fields, bytes), and one makes numbers of them: field k is 2^(k bits)
    times its code, and so is its zero point.
    """
    ids, output = node.input[0], node.output[0]
    packed, zero = pack_rows(integers, bits)
    width, parts = integers.shape[1], GROUP // bits
    units = 2 ** (bits * np.arange(parts))
    mask = store.keep(f"mask{bits}", ((2**bits - 1) * units).astype(np.uint8)[:, None])
    nodes = [
        *_scale(output, ids, scale[:, None, None], store),
        helper.make_node("Gather", [store.keep(f"{output}.rows", packed[:, None, :]), ids], [f"{output}.bytes"]),
        helper.make_node("BitwiseAnd", [f"{output}.bytes", mask], [f"{output}.fields"]),
    ]
    if bits == 1:
        nodes += [
            helper.make_node("Cast", [f"{output}.fields"], [f"{output}.positive"], to=TensorProto.BOOL),
            helper.make_node("Neg", [f"{output}.scale"], [f"{output}.negative"]),
            helper.make_node(
                "Where", [f"{output}.positive", f"{output}.scale", f"{output}.negative"], [f"{output}.parts"]
            ),
        ]
    else:
        unit = store.keep(f"unit{bits}", (1 / units).astype(np.float32))
        middle = store.keep(f"middle{bits}", (zero * units).astype(np.uint8))
        nodes += [
            helper.make_node("DequantizeLinear", [f"{output}.fields", unit, middle], [f"{output}.numbers"], axis=-2),
            helper.make_node("Mul", [f"{output}.numbers", f"{output}.scale"], [f"{output}.parts"]),
        ]
    shape = store.constant([*[0] * dimensions, -1], np.int64)
    if width % parts == 0:
        return [*nodes, helper.make_node("Reshape", [f"{output}.parts", shape], [output])]
    ends = [store.constant([end], np.int64) for end in (0, width, -1)]
    return [
        *nodes,
        helper.make_node("Reshape", [f"{output}.parts", shape], [f"{output}.whole"]),
        helper.make_node("Slice", [f"{output}.whole", *ends], [output]),
    ]
