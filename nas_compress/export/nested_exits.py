"""Nesting of early exits: all that only later exits need moves into the branch of an If.

The exporter leaves a flat graph with one `EarlyExit` node per exit, of the domain DOMAIN, and one `LastExit`. Weights
and constants move into the branch that reads them and are copied if several levels read them: the runtime takes a
tensor of an outer graph for a computed one and would neither fold nor fuse it (measured: 1.4 to 2.1 times slower). A
DequantizeLinear of a computed tensor is copied as well, so that an integer kernel in a branch finds it there.

The thresholds stay in the outermost graph. They are optional inputs: stored tensors that a caller may replace.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas_compress.export.graph_edits import initialisers, makers, replace_nodes_
from nas_compress.values.exits.settings import THRESHOLD

DOMAIN = "nas_compress"
EARLY_EXIT = "EarlyExit"
"""confidence (N,), threshold (1,), early, late and late_exit to answers and numbers of exits; attribute `number`."""
LAST_EXIT = "LastExit"
"""Answers (N, K) to the number of the last exit (N,); attribute `number`."""

_NAME = re.compile(rf"{THRESHOLD}\d+")

LATE = (3, 4)
"""Inputs of an EarlyExit that only later exits compute."""

THRESHOLD_PLACE = 1
"""Input of an EarlyExit with its threshold."""


def nest_exits_(graph: onnx.GraphProto) -> bool:
    """Replace every EarlyExit by an If of one sample; return False if there is none.

    Needs exits in a chain: the late inputs of one are the outputs of the next, and the first gives the graph's outputs.
    """
    if not any(_is(node, EARLY_EXIT) for node in graph.node):
        return False
    thresholds = _take_thresholds_(graph)
    _mean_planes_(graph)
    nodes, tensors = _level(graph, _levels(graph), 0)
    tensors += thresholds
    replace_nodes_(graph, nodes)
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return True


def with_thresholds(model: onnx.ModelProto, thresholds: Sequence[float]) -> onnx.ModelProto:
    """Return a copy of a file with exits that has other thresholds, one per exit before the end."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if _NAME.fullmatch(tensor.name):
            value = thresholds[int(tensor.name.removeprefix(THRESHOLD))]
            tensor.CopyFrom(numpy_helper.from_array(np.array([value], dtype=np.float32), tensor.name))
    return copy


def threshold_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the optional inputs of a nested graph: one threshold for each exit before the end, in order."""
    named = sorted(tensor.name for tensor in graph.initializer if _NAME.fullmatch(tensor.name))
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1,)) for name in named]


def _take_thresholds_(graph: onnx.GraphProto) -> list[TensorProto]:
    """Give each exit its threshold by the name `threshold0`, `threshold1`, ..., and return these tensors."""
    stored, made_by, taken = initialisers(graph), makers(graph), []
    for node in (node for node in graph.node if _is(node, EARLY_EXIT)):
        name = node.input[THRESHOLD_PLACE]
        while name in made_by:  # the exporter stores equal tensors once and adds an Identity
            name = made_by[name].input[0]
        taken.append(TensorProto())
        taken[-1].CopyFrom(stored[name])
        taken[-1].name = f"{THRESHOLD}{_exit_number(node)}"
        node.input[THRESHOLD_PLACE] = taken[-1].name
    kept = [tensor for name, tensor in stored.items() if not _NAME.fullmatch(name)]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    replace_nodes_(graph, [node for node in graph.node if not any(map(_NAME.fullmatch, node.output))])
    return taken


def _mean_planes_(graph: onnx.GraphProto) -> None:
    """Replace GlobalAveragePool and Flatten by one ReduceMean if later exits read the same computed tensor too.

    The tensor leaves the runtime's blocked layout for the branch anyway. The mean then needs no change of layout and no
    Flatten: measured, 3 to 8 microseconds less per exit. Integer pools keep their nodes.
    """
    made_by, readers = makers(graph), Counter(name for node in graph.node for name in node.input)
    nodes, axes = [], numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "planes")
    for node in graph.node:
        pool = made_by.get(node.input[0]) if node.op_type == "Flatten" else None
        if pool is None or pool.op_type != "GlobalAveragePool" or readers[pool.output[0]] != 1:
            nodes.append(node)
            continue
        maker = made_by.get(pool.input[0])
        if maker is None or maker.op_type == "DequantizeLinear" or readers[pool.input[0]] < 2:
            nodes.append(node)
            continue
        nodes.remove(pool)
        nodes.append(helper.make_node("ReduceMean", [pool.input[0], axes.name], list(node.output), keepdims=0))
    if any(axes.name in node.input for node in nodes):
        graph.initializer.append(axes)
    replace_nodes_(graph, nodes)


@dataclass(frozen=True, kw_only=True)
class _Levels:
    """The levels, 0 outside of all branches, at which each node and each stored tensor is needed.

    nodes: by the place of a node; several levels mean copies. tensors: by the name of a stored tensor. first: the level
    whose copy keeps its name, by the name of a copied tensor.
    """

    nodes: dict[int, set[int]] = field(default_factory=dict)
    tensors: dict[str, set[int]] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)

    def name(self, name: str, level: int) -> str:
        """Return the name of a tensor as the nodes of a level read it."""
        return name if self.first.get(name, level) == level else f"{name}@{level}"


def _levels(graph: onnx.GraphProto) -> _Levels:
    stored = initialisers(graph)
    copied, levels = _copied(graph, stored), _Levels()
    needed: dict[str, set[int]] = {value.name: {0} for value in graph.output}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        wanted = set().union(*(needed.get(name, set()) for name in node.output))
        if not wanted:
            continue
        own = wanted if place in copied else {min(wanted)}
        levels.nodes[place] = own
        if place in copied:
            levels.first.update(dict.fromkeys(node.output, min(own)))
        for at, name in enumerate(node.input):
            inner = _is(node, EARLY_EXIT) and at in LATE
            needed.setdefault(name, set()).update(level + inner for level in own)
    for name in stored:
        if name in needed:
            levels.tensors[name] = needed[name]
            levels.first[name] = min(needed[name])
    return levels


def _copied(graph: onnx.GraphProto, stored: Mapping[str, TensorProto]) -> set[int]:
    """Return the places of nodes that every level has for itself: constants, and the values of stored integers."""
    constant = {*stored, ""}
    copied = set()
    for place, node in enumerate(graph.node):
        if constant.issuperset(node.input):
            constant.update(node.output)
            copied.add(place)
        elif node.op_type == "DequantizeLinear" and constant.issuperset(node.input[1:]):
            copied.add(place)
    return copied


def _level(graph: onnx.GraphProto, levels: _Levels, level: int) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Return the nodes and stored tensors of one level; its exit holds those of the next level."""
    nodes = []
    for place, node in enumerate(graph.node):
        if level not in levels.nodes.get(place, ()):
            continue
        if _is(node, EARLY_EXIT):
            nodes += _branch(node, graph, levels, level)
            continue
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if _is(node, LAST_EXIT):
            copy.CopyFrom(_number(node, node.output[0]))
        else:
            copy.input[:] = [levels.name(name, level) for name in node.input]
            copy.output[:] = [levels.name(name, level) for name in node.output]
        nodes.append(copy)
    tensors = []
    for tensor in graph.initializer:
        if level in levels.tensors.get(tensor.name, ()):
            tensors.append(TensorProto())
            tensors[-1].CopyFrom(tensor)
            tensors[-1].name = levels.name(tensor.name, level)
    return nodes, tensors


def _branch(node: onnx.NodeProto, graph: onnx.GraphProto, levels: _Levels, level: int) -> list[onnx.NodeProto]:
    """Return the gate and the If of an exit: its answer, or all nodes of the next level."""
    confidence, threshold, early, late, late_exit = node.input
    answer, exit_ = node.output
    leaves = f"{exit_}.leaves"
    gate = helper.make_node("GreaterOrEqual", [levels.name(confidence, level), threshold], [leaves])
    then = helper.make_graph(
        [
            helper.make_node("Identity", [levels.name(early, level)], [f"{answer}.early"]),
            _number(node, f"{exit_}.early"),
        ],
        "n",
        [],
        _ends([f"{answer}.early", f"{exit_}.early"]),
    )
    nodes, tensors = _level(graph, levels, level + 1)
    rest = helper.make_graph(nodes, "n", [], _ends([late, late_exit]), tensors)
    return [gate, helper.make_node("If", [leaves], [answer, exit_], then_branch=then, else_branch=rest)]


def _number(node: onnx.NodeProto, output: str) -> onnx.NodeProto:
    """Return a node that makes the number of an exit, int64 (1,)."""
    value = numpy_helper.from_array(np.array([_exit_number(node)], dtype=np.int64))
    return helper.make_node("Constant", [], [output], value=value)


def _exit_number(node: onnx.NodeProto) -> int:
    return int(next(attribute.i for attribute in node.attribute if attribute.name == "number"))


def _ends(names: Sequence[str]) -> list[onnx.ValueInfoProto]:
    kinds = (TensorProto.FLOAT, TensorProto.INT64)
    return [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(names, kinds, strict=True)]


def _is(node: onnx.NodeProto, operator: str) -> bool:
    return bool(node.domain == DOMAIN and node.op_type == operator)
