"""Key of the graph that runs, without the values of its weights: latency depends on nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import helper, numpy_helper

from nas_compress.devices.onnx_session import read_model
from nas_compress.export.graph_edits import every_graph, inner_graphs


def structure_key(path: Path) -> str:
    """Return 16 hexadecimal digits, equal for files with the same loaded graph, trained or not.

    Nodes, attributes and the connections of computed tensors enter the key. Subgraphs of constants, such as weights
    from packed bytes, are folded at load time, so only their output type and shape enter. Of stored tensors, only
    64-bit integers enter by value, because they are shapes and indices, such as the number of an attention's heads.
    The settings of hashed words enter too: they decide the words of the texts on which a file is timed.
    Branches enter by the same rules, so the key of a file with branches does not decide its latency: the weights decide
    which branch runs.
    """
    model = read_model(path)
    inferred = every_graph(onnx.shape_inference.infer_shapes(model).graph)
    shapes = {value.name: _end(value)[1:] for graph in inferred for value in graph.value_info}
    content = {
        "opset": sorted((opset.domain, opset.version) for opset in model.opset_import),
        "ends": [_end(value) for value in (*model.graph.input, *model.graph.output)],
        "nodes": _Numbering(shapes=shapes).nodes(model.graph, {}),
    }
    words = [entry.value for entry in model.metadata_props if entry.key == "hashed_words"]
    if words:
        content["words"] = words
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class _Numbering:
    """Descriptions of nodes with numbered tensors, because names depend on the exporter.

    shapes: type and shape of computed tensors, if known. numbers: given so far, by name.
    """

    shapes: Mapping[str, list[Any]]
    numbers: dict[str, str] = field(default_factory=dict)

    def nodes(self, graph: onnx.GraphProto, outer: Mapping[str, list[Any]]) -> list[Any]:
        """Return the nodes of a graph that run. outer: descriptions of constants around a branch."""
        constant, running = self._fold(graph, outer)

        def known(name: str) -> Any:
            return constant.get(name) or self.numbers.setdefault(name, str(len(self.numbers)))

        described = []
        for node in running:
            plain = [each for each in node.attribute if not (each.HasField("g") or each.graphs)]
            entry: list[Any] = [node.domain, node.op_type, [known(name) for name in node.input]]
            branches = []
            for branch in inner_graphs(node):
                inner = self.nodes(branch, constant)
                branches.append([inner, [self.numbers.get(value.name, "constant") for value in branch.output]])
            entry.append([known(name) for name in node.output])
            entry.append(sorted((each.name, repr(helper.get_attribute_value(each))) for each in plain))
            described.append([*entry, branches] if branches else entry)
        return described

    def _fold(
        self, graph: onnx.GraphProto, outer: Mapping[str, list[Any]]
    ) -> tuple[dict[str, list[Any]], list[onnx.NodeProto]]:
        """Return the descriptions of stored or folded tensors, by name, and the nodes that run."""
        constant = {**outer, **{tensor.name: _stored(tensor) for tensor in graph.initializer}}
        running = []
        for node in graph.node:
            if inner_graphs(node) or not set(node.input) <= {*constant, ""}:
                running.append(node)
            elif node.op_type == "DequantizeLinear":  # not folded: the kernel after it reads the integers
                constant[node.output[0]] = [node.op_type, *(constant[name] for name in node.input)]
            else:
                # a tensor of unknown shape is identified by the node that computes it
                constant |= {name: self.shapes.get(name, [node.op_type, name]) for name in node.output}
        return constant, running


def _stored(tensor: onnx.TensorProto) -> list[Any]:
    described: list[Any] = [tensor.data_type, list(tensor.dims)]
    if tensor.data_type == onnx.TensorProto.INT64:
        described.append(numpy_helper.to_array(tensor).tolist())
    return described


def _end(value: onnx.ValueInfoProto) -> list[Any]:
    kind = value.type.tensor_type
    return [value.name, kind.elem_type, [size.dim_param or size.dim_value for size in kind.shape.dim]]
