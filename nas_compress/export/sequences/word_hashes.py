"""Ids of words from raw UTF-8 bytes, by standard operators on whole numbers of 64 bits.

The exporters leave one node, `HashedWords` of the domain DOMAIN. No sum comes near 64 bits: a term is below 2^39.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas_compress.export.graph_edits import every_graph, replace_nodes_
from nas_compress.export.lower_stored_weights import DOMAIN
from nas_compress.export.unpack_nodes import Nodes, TensorStore
from nas_compress.values.text.hashed_words import CODES, FACTORS, FIRST, KINDS, LETTER, MARK, POSITIONS, PRIME

HASHED_WORDS = "HashedWords"
"""Bytes uint8 (N, bytes) to ids int32 (N, words); attributes `buckets` and `longest`."""

EVERY = 2**62
"""End of a slice of all places."""


def write_word_hashes_(graph: onnx.GraphProto) -> None:
    """Replace every hash of DOMAIN by standard operators with the same output, also in branches."""
    for part in every_graph(graph):
        if any(map(_is_hash, part.node)):
            store, nodes = TensorStore(part), list[onnx.NodeProto]()
            for node in part.node:
                nodes += _written(node, store) if _is_hash(node) else [node]
            replace_nodes_(part, nodes)


def _is_hash(node: onnx.NodeProto) -> bool:
    return bool(node.domain == DOMAIN and node.op_type == HASHED_WORDS)


def _written(node: onnx.NodeProto, store: TensorStore) -> Nodes:
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    at, writer = node.output[0], _Writer(node.output[0], store)
    padded = writer.add("Pad", node.input[0], writer.list(0, 0, 0, 1))  # texts of no bytes work too
    index = writer.add("Cast", padded, to=TensorProto.INT32)
    kinds = writer.add("Gather", writer.table("kinds", KINDS, np.uint8), index)
    codes = writer.add("Gather", writer.table("codes", CODES, np.uint8), index)
    letter = writer.add("Equal", kinds, writer.number(LETTER))
    before = writer.add("Equal", writer.add("Pad", kinds, writer.list(0, 1, 0, -1)), writer.number(LETTER))
    first = writer.add("And", letter, writer.add("Not", before))
    begins = writer.whole(writer.add("Or", first, writer.add("Equal", kinds, writer.number(MARK))))
    number = writer.add("CumSum", begins, writer.number(1))
    counts = writer.add("ReduceMax", number, writer.list(1), keepdims=1)
    most = writer.add("Max", writer.add("ReduceMax", counts, keepdims=0), writer.number(1))
    columns = writer.add("Add", most, writer.number(1))
    texts = writer.add("Shape", padded, start=0, end=1)
    size = writer.add("Concat", texts, writer.add("Unsqueeze", columns, writer.list(0)), axis=0)
    zero = numpy_helper.from_array(np.zeros(1, dtype=np.int64))
    nothing = writer.add("ConstantOfShape", size, value=zero)
    length = writer.add("Gather", writer.add("Shape", padded), writer.number(1))
    place = writer.add("Range", writer.number(0), length, writer.number(1))
    started = writer.add("Mul", begins, place)
    begin = writer.add("ScatterElements", nothing, number, started, axis=1, reduction="add")
    inside = writer.add("Sub", place, writer.add("GatherElements", begin, number, axis=1))
    factor = writer.add(
        "Gather",
        writer.table("factors", FACTORS, np.int32),
        writer.add("Mod", inside, writer.number(POSITIONS)),
    )
    terms = writer.add("Mul", codes, factor)
    sums = writer.add("ScatterElements", nothing, number, terms, axis=1, reduction="add")
    words = writer.add("Slice", sums, writer.list(1), writer.list(EVERY), writer.list(1))
    hashes = writer.add("Mod", writer.add("Mod", words, writer.number(PRIME)), writer.number(values["buckets"]))
    ids = writer.add("Add", hashes, writer.number(FIRST))
    column = writer.add("Range", writer.number(1), columns, writer.number(1))
    none = writer.add("Equal", counts, writer.number(0))
    empty = writer.whole(writer.add("And", none, writer.add("Equal", column, writer.number(1))))
    there = writer.add("Not", writer.add("Greater", column, counts))
    chosen = writer.add("Where", there, ids, empty)
    cut = writer.add("Slice", chosen, writer.list(0), writer.list(values["longest"]), writer.list(1))
    return [*writer.nodes, helper.make_node("Cast", [cut], [at], to=TensorProto.INT32)]


class _Writer:
    """Collects nodes and names their outputs."""

    def __init__(self, at: str, store: TensorStore) -> None:
        self.nodes: Nodes = []
        self._at, self._store = at, store

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output; return its name."""
        output = f"{self._at}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def whole(self, values: str) -> str:
        """Return truth values as whole numbers."""
        return self.add("Cast", values, to=TensorProto.INT64)

    def number(self, value: int) -> str:
        """Store a single whole number."""
        return self._store.number(value)

    def list(self, *values: int) -> str:
        """Store whole numbers."""
        return self._store.constant(values, np.int64)

    def table(self, name: str, values: tuple[int, ...], kind: type[np.generic]) -> str:
        """Store a table in few bytes; the runtime widens it when it loads the file."""
        return self.whole(self._store.keep(f"{self._at}.{name}", np.array(values, dtype=kind)))
