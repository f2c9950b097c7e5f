"""Tables of a spectrogram, made from few numbers when the file is loaded.

The exporters leave one node per table, `MadeAtLoad` of the domain DOMAIN. The runtime computes the nodes that replace
it once, so a file runs as fast as one with stored tables.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper

from nas_compress.export.graph_edits import Array, every_graph, replace_nodes_
from nas_compress.export.lower_stored_weights import DOMAIN
from nas_compress.export.unpack_nodes import Nodes, TensorStore

MADE_AT_LOAD = "MadeAtLoad"
"""Edges of mel bands (bands + 2,), or none (0,), to the table of `models.inputs.spectrogram.made_at_load`.

Its attributes are `window`, `step` and `factor`."""


def make_sound_tables_(graph: onnx.GraphProto) -> None:
    """Replace every table of DOMAIN by standard operators on few numbers, also in branches."""
    for part in every_graph(graph):
        if any(map(_is_table, part.node)):
            store, nodes = TensorStore(part), list[onnx.NodeProto]()
            for node in part.node:
                nodes += _written(node, store) if _is_table(node) else [node]
            replace_nodes_(part, nodes)


def _is_table(node: onnx.NodeProto) -> bool:
    return bool(node.domain == DOMAIN and node.op_type == MADE_AT_LOAD)


def _written(node: onnx.NodeProto, store: TensorStore) -> Nodes:
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    edges = store.array(node.input[0])
    if len(edges):
        return _filters(node.output[0], edges, int(values["window"]), float(values["step"]), store)
    return _kernels(node.output[0], int(values["window"]), float(values["factor"]), store)


def _kernels(at: str, window: int, factor: float, store: TensorStore) -> Nodes:
    """Return nodes for cosines and sines of k n / window under a Hann window, float32 (2 * bins, 1, window).

    Angles and their cosines are doubles: the error of a float would be seen beside a loud tone. The product k n is
    taken modulo the window before, as a whole number.
    """
    size, bins = store.number(window), store.number(window // 2 + 1)
    hann = store.keep(f"{at}.half", np.array(factor / 2))
    return [
        *_count(f"{at}.n", size, store),
        *_count(f"{at}.k", bins, store),
        helper.make_node("Unsqueeze", [f"{at}.k", store.constant([1, 2], np.int64)], [f"{at}.column"]),
        helper.make_node("Mul", [f"{at}.column", f"{at}.n"], [f"{at}.product"]),
        helper.make_node("Mod", [f"{at}.product", size], [f"{at}.turn"]),
        *_angle(f"{at}.turn", f"{at}.angle", window, store),
        *_angle(f"{at}.n", f"{at}.once", window, store),
        helper.make_node("Cos", [f"{at}.once"], [f"{at}.wave"]),
        helper.make_node("Mul", [f"{at}.wave", hann], [f"{at}.scaled"]),
        helper.make_node("Sub", [hann, f"{at}.scaled"], [f"{at}.hann"]),
        helper.make_node("Cos", [f"{at}.angle"], [f"{at}.cos"]),
        helper.make_node("Sin", [f"{at}.angle"], [f"{at}.sin"]),
        helper.make_node("Concat", [f"{at}.cos", f"{at}.sin"], [f"{at}.waves"], axis=0),
        helper.make_node("Mul", [f"{at}.waves", f"{at}.hann"], [f"{at}.double"]),
        helper.make_node("Cast", [f"{at}.double"], [at], to=TensorProto.FLOAT),
    ]


def _filters(at: str, edges: Array, window: int, step: float, store: TensorStore) -> Nodes:
    """Return nodes for triangles between the edges, float32 (bands, bins)."""
    bands = len(edges) - 2
    stored = store.keep(f"{at}.edges", edges.astype(np.float32)[:, None])
    ends = [store.constant([end], np.int64) for end in (0, 1, 2, bands, bands + 1, bands + 2)]
    parts = [
        helper.make_node("Slice", [stored, ends[first], ends[first + 3]], [f"{at}.{name}"])
        for first, name in enumerate(("low", "centre", "high"))
    ]
    return [
        *_count(f"{at}.k", store.number(window // 2 + 1), store),
        helper.make_node("Cast", [f"{at}.k"], [f"{at}.number"], to=TensorProto.FLOAT),
        helper.make_node(
            "Mul", [f"{at}.number", store.keep(f"{at}.step", np.array(step, dtype=np.float32))], [f"{at}.hertz"]
        ),
        *parts,
        helper.make_node("Sub", [f"{at}.hertz", f"{at}.low"], [f"{at}.above"]),
        helper.make_node("Sub", [f"{at}.centre", f"{at}.low"], [f"{at}.rise"]),
        helper.make_node("Div", [f"{at}.above", f"{at}.rise"], [f"{at}.rising"]),
        helper.make_node("Sub", [f"{at}.high", f"{at}.hertz"], [f"{at}.below"]),
        helper.make_node("Sub", [f"{at}.high", f"{at}.centre"], [f"{at}.fall"]),
        helper.make_node("Div", [f"{at}.below", f"{at}.fall"], [f"{at}.falling"]),
        helper.make_node("Min", [f"{at}.rising", f"{at}.falling"], [f"{at}.both"]),
        helper.make_node("Relu", [f"{at}.both"], [at]),
    ]


def _angle(source: str, at: str, window: int, store: TensorStore) -> Nodes:
    turn = store.keep(f"turn{window}", np.array(2 * math.pi / window))
    return [
        helper.make_node("Cast", [source], [f"{at}.double"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", [f"{at}.double", turn], [at]),
    ]


def _count(at: str, end: str, store: TensorStore) -> Nodes:
    return [helper.make_node("Range", [store.number(0), end, store.number(1)], [at])]
