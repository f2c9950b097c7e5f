"""Every pass over ONNX graphs does inside a branch what it does outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from nas_compress.devices.onnxruntime_cpu.kernel_check import float_kernels
from nas_compress.export import graph_edits
from nas_compress.export.integer_linear import make_linear_layers_integer_
from nas_compress.export.integer_moves import move_integers_
from nas_compress.export.lower_stored_weights import leave_out_zeros_, store_weights_
from nas_compress.export.strip import strip
from nas_compress.export.torchscript import trace_to_onnx
from nas_compress.export.weight_formats import Layout
from nas_compress.measurement.file_contents import stored_layers, weight_contents
from nas_compress.measurement.graph_key import structure_key
from nas_compress.measurement.onnx_macs import count_onnx_macs
from nas_compress.models.layers import ActivationPoint, ConvUnit, Head, RawInput
from nas_compress.quantization.quantize import quantize
from nas_compress.values.signature import Signature

SIGNATURE = Signature.of_images((1, 8, 8), classes=10)
SPARSE = Layout(sparse=True)
SAMPLES = torch.randint(0, 17, (16, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

Pass = Callable[[onnx.ModelProto], object]
PASSES: dict[str, Pass] = {
    "inline constants": lambda model: graph_edits.inline_constants_(model.graph),
    "store weights": lambda model: store_weights_(model.graph, SPARSE),
    "pool over whole planes": lambda model: graph_edits.pool_over_whole_planes_(model.graph),
    "move integers": lambda model: move_integers_(model.graph),
    "make linear layers integer": make_linear_layers_integer_,
    "leave out zeros": lambda model: leave_out_zeros_(model.graph),
    "share halves": lambda model: graph_edits.share_halves_(model.graph),
    "drop unread nodes": lambda model: graph_edits.drop_unread_nodes_(model.graph),
}
"""Passes in the order of an export."""


class Padded(nn.Module):
    """A network with something to do for every pass."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.raw, self.first, self.second = RawInput(8, 5.0), ConvUnit(1, 64), ConvUnit(64, 16, kernel=kernel)
        self.pad, self.point = nn.ZeroPad2d((0, 1, 0, 1)), ActivationPoint()
        self.inner, self.head = nn.Linear(16, 16, bias=False), Head(16, 10)

    def forward(self, samples: Tensor) -> Tensor:
        """Map (N, 1, 8, 8) to (N, 10)."""
        values = self.second(self.pad(self.first(self.raw(samples))))
        inner = self.point(torch.relu(self.inner(self.head.point(values.mean((2, 3), keepdim=True)).flatten(1))))
        logits: Tensor = self.head(values) + self.head.classifier(inner)
        return logits


def traced(seed: int = 0, kernel: int = 3) -> onnx.ModelProto:
    torch.manual_seed(seed)
    network = Padded(kernel)
    with torch.no_grad():
        for weight in network.parameters():
            weight[torch.rand_like(weight) < 0.9] = 0
    small = quantize(network, weight_bits=4, activation_bits=8, calibration={"input": SAMPLES})
    return trace_to_onnx(small, {"input": SAMPLES[:3]}, SIGNATURE)


def in_a_branch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move the whole graph into one side of an If that runs if the first pixel is not 255."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    (output,) = graph.output
    inner_end = helper.make_tensor_value_info(output.name, TensorProto.FLOAT, None)
    runs = helper.make_graph(list(graph.node), "n", [], [inner_end], list(graph.initializer))
    zeros = helper.make_tensor("zeros.value", TensorProto.FLOAT, (1, 10), [0.0] * 10)
    never = helper.make_graph(
        [helper.make_node("Constant", [], ["zeros"], value=zeros)],
        "n",
        [],
        [helper.make_tensor_value_info("zeros", TensorProto.FLOAT, None)],
    )
    first = helper.make_tensor("first", TensorProto.INT64, (1,), [0])
    most = helper.make_tensor("most", TensorProto.UINT8, (1,), [255])
    shape = helper.make_tensor("flat", TensorProto.INT64, (1,), [-1])
    outside = [
        helper.make_node("Reshape", ["input", "flat"], ["row"]),
        helper.make_node("Gather", ["row", "first"], ["pixel"]),
        helper.make_node("Less", ["pixel", "most"], ["runs"]),
        helper.make_node("If", ["runs"], ["chosen"], then_branch=runs, else_branch=never),
    ]
    end = onnx.ValueInfoProto()
    end.CopyFrom(output)
    end.name = "chosen"
    whole = helper.make_graph(outside, "n", list(graph.input), [end], [first, most, shape])
    return helper.make_model(whole, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def branch(model: onnx.ModelProto) -> onnx.GraphProto:
    (node,) = [node for node in model.graph.node if node.op_type == "If"]
    return next(attribute.g for attribute in node.attribute if attribute.name == "then_branch")


def shipped(model: onnx.ModelProto) -> onnx.ModelProto:
    for apply in PASSES.values():
        apply(model)
    return strip(model)


def answers(model: onnx.ModelProto) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": SAMPLES[place : place + 1].numpy()})[0] for place in range(4)])


def operators(graph: onnx.GraphProto) -> list[str]:
    return [node.op_type for node in graph.node]


@pytest.fixture(scope="module")
def flat_model() -> onnx.ModelProto:
    return traced()


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_edits_a_branch_as_it_edits_a_graph(name: str, flat_model: onnx.ModelProto) -> None:
    flat = onnx.ModelProto()
    flat.CopyFrom(flat_model)
    nested = in_a_branch(flat)
    for each, apply in PASSES.items():
        before = operators(flat.graph)
        apply(flat)
        apply(nested)
        if each == name:
            break
    assert operators(branch(nested)) == operators(flat.graph)
    stored = [len(tensor.SerializeToString()) for tensor in flat.graph.initializer]
    assert [len(tensor.SerializeToString()) for tensor in branch(nested).initializer] == stored
    if name != "drop unread nodes":
        assert operators(flat.graph) != before, "the example has nothing to do for this pass"


def test_a_file_answers_alike_from_inside_a_branch(flat_model: onnx.ModelProto) -> None:
    flat = onnx.ModelProto()
    flat.CopyFrom(flat_model)
    nested = shipped(in_a_branch(flat))
    np.testing.assert_array_equal(answers(nested), answers(shipped(flat)))
    assert operators(branch(nested)), "strip keeps the nodes of a branch"


def test_a_node_that_only_a_branch_reads_stays() -> None:
    end = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1,))
    sides = [
        helper.make_graph(
            [helper.make_node(operator, ["twice"], [name])], "n", [], [helper.make_empty_tensor_value_info(name)]
        )
        for operator, name in (("Neg", "a"), ("Abs", "b"))
    ]
    nodes = [
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Mul", ["x", "x"], ["unread"]),
        helper.make_node("If", ["c"], ["y"], then_branch=sides[0], else_branch=sides[1]),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, (1,)),
        helper.make_tensor_value_info("c", TensorProto.BOOL, (1,)),
    ]
    graph = helper.make_graph(nodes, "n", ends, [end])
    graph_edits.drop_unread_nodes_(graph)
    assert operators(graph) == ["Add", "If"]


def test_measurements_of_a_file_include_its_branches(tmp_path: Path, flat_model: onnx.ModelProto) -> None:
    flat, nested = tmp_path / "flat.onnx", tmp_path / "nested.onnx"
    copy = onnx.ModelProto()
    copy.CopyFrom(flat_model)
    nested.write_bytes(shipped(in_a_branch(copy)).SerializeToString())
    flat.write_bytes(shipped(copy).SerializeToString())

    def sizes(path: Path) -> dict[str, int]:
        layers = [each for each in stored_layers(path) if each.name.startswith(("Conv", "Gemm"))]
        return {each.name: each.size_bytes for each in layers}

    assert sizes(nested) == sizes(flat) != {}
    assert weight_contents(nested) == weight_contents(flat)
    sample = {"input": SAMPLES[:1].numpy()}
    assert count_onnx_macs(nested.read_bytes(), sample) == count_onnx_macs(flat.read_bytes(), sample) > 0
    assert float_kernels(nested) == float_kernels(flat) == ()


def test_the_key_of_a_graph_has_the_structure_of_a_branch_and_not_its_weights(tmp_path: Path) -> None:
    keys = []
    for name, seed, kernel in (("a", 0, 1), ("b", 1, 1), ("c", 0, 3)):
        path = tmp_path / f"{name}.onnx"
        model = in_a_branch(traced(seed=seed, kernel=kernel))
        for each, apply in PASSES.items():
            if each != "leave out zeros":
                apply(model)
        path.write_bytes(strip(model).SerializeToString())
        keys.append(structure_key(path))
    assert keys[0] == keys[1] != keys[2]
