"""Memory of real files: widths, batches, branches, and the arena of onnxruntime."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from nas_compress.errors import RequestError
from nas_compress.export.onnx_file import export_onnx
from nas_compress.measurement.memory.figures import memory_figures
from nas_compress.measurement.memory.graph_memory import portable_memory, runtime_memory, tensor_bytes
from nas_compress.quantization.quantize import quantize
from nas_compress.values.device_settings import MEMORY_METRICS, DeviceSettings
from nas_compress.values.signature import Signature

FLOAT = TensorProto.FLOAT
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"


def write(
    path: Path, nodes: Sequence[onnx.NodeProto], *, kind: int = FLOAT, size: int = 8, **stored: NDArray[np.generic]
) -> Path:
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    values = [helper.make_tensor_value_info(name, kind, ["N", size]) for name in ("input", "logits")]
    graph = helper.make_graph(list(nodes), "g", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def matmul(given: str, weights: str, result: str) -> onnx.NodeProto:
    return helper.make_node("MatMul", [given, weights], [result])


def test_weights_and_activations_of_two_layers(tmp_path: Path) -> None:
    weights = {name: np.ones(shape, np.float32) for name, shape in (("v", (8, 100)), ("w", (100, 8)))}
    path = write(tmp_path / "m.onnx", [matmul("input", "v", "hidden"), matmul("hidden", "w", "logits")], **weights)
    found = portable_memory(path)
    assert (found.weights, found.activations) == (4 * 1600, 4 * 108)
    for batch in (1, 16):
        run = runtime_memory(path, batch=batch)
        assert (run.weights, run.activations) == (4 * 1600, batch * 4 * (8 + 100 + 8))


def test_tensors_count_at_their_own_width(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["input"], ["wide"], to=FLOAT),
        helper.make_node("Exp", ["wide"], ["large"]),
        helper.make_node("Cast", ["large"], ["logits"], to=TensorProto.UINT8),
    ]
    path = write(tmp_path / "m.onnx", nodes, kind=TensorProto.UINT8, size=1000)
    assert portable_memory(path).activations == 4000 + 4000


def test_integer_weights_count_one_byte_and_packed_ones_the_byte_of_their_kernels(
    tmp_path: Path, make_network: Callable[..., nn.Module]
) -> None:
    samples = torch.randint(0, 17, (16, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = {}
    for weight_bits, activation_bits in ((32, 32), (8, 8), (2, 8)):
        network = quantize(
            make_network("resnet").eval(),
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            calibration={"input": samples},
        )
        path = tmp_path / f"{weight_bits}.onnx"
        export_onnx(network, Signature.of_images((1, 8, 8), classes=10), path)
        found[weight_bits] = portable_memory(path)
    assert found[32].weights > 3 * found[8].weights
    assert abs(found[2].weights - found[8].weights) < 0.1 * found[8].weights
    assert found[32].activations > 2 * found[8].activations


def branches(path: Path, hidden: int) -> Path:
    """Write a file whose first branch has a layer of that many channels and weights of the outer graph."""

    def branch(name: str, nodes: list[onnx.NodeProto], **stored: NDArray[np.float32]) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(name, FLOAT, None)
        return helper.make_graph(nodes, name, [], [result], [numpy_helper.from_array(v, k) for k, v in stored.items()])

    then = branch("then", [matmul("input", "v", "wide"), matmul("wide", "w", "then")], w=np.ones((hidden, 8), "f"))
    other = branch("other", [matmul("input", "u", "other")], u=np.ones((8, 8), "f"))
    nodes = [
        helper.make_node("ReduceSum", ["input"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "limit"], ["large"]),
        helper.make_node("If", ["large"], ["logits"], then_branch=then, else_branch=other),
    ]
    return write(path, nodes, v=np.ones((8, hidden), "f"), limit=np.array(0, "f"))


def test_the_weights_of_all_branches_and_the_tensors_of_the_largest_count(tmp_path: Path) -> None:
    small, large = (portable_memory(branches(tmp_path / f"{hidden}.onnx", hidden)) for hidden in (100, 1100))
    assert large.weights - small.weights == 4 * 1000 * 16  # v outside and w inside
    assert large.activations - small.activations == 4 * 1000
    assert runtime_memory(tmp_path / "100.onnx", batch=4).activations >= 4 * 4 * (8 + 100 + 8)


def test_a_loop_is_refused(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["again"]), helper.make_node("Relu", ["carried"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["input"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["count"], to=TensorProto.INT64),
        helper.make_node("Loop", ["count", "", "input"], ["logits"], body=body),
    ]
    path = write(tmp_path / "m.onnx", nodes)
    with pytest.raises(RequestError, match=r"graphs without loops, but got Loop in m\.onnx"):
        portable_memory(path)


def test_figures_are_those_that_a_study_names(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [matmul("input", "v", "logits")], v=np.ones((8, 8), "f"))
    assert memory_figures(path, DeviceSettings(), sizes={}) == {}
    every = memory_figures(path, DeviceSettings(memory=MEMORY_METRICS, batch=2), sizes={})
    assert every == {"peak_memory_bytes": 4 * 64 + 2 * 4 * 16, "flash_bytes": 4 * 64, "ram_bytes": 4 * 16}


def test_numbers_of_less_than_a_byte_are_counted_as_stored() -> None:
    kinds = {TensorProto.INT4: 4, TensorProto.UINT2: 2, TensorProto.INT8: 7, TensorProto.FLOAT16: 14}
    for kind, expected in kinds.items():
        assert tensor_bytes(TensorProto(data_type=kind, dims=[7])) == expected


@pytest.mark.slow
def test_the_smallest_arena_in_which_onnxruntime_runs_a_file_is_the_computed_one_within_a_tenth() -> None:
    words = [sys.executable, "-W", "ignore", BENCHMARK, "perceptron", "ladder", "vit"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    ratios = [float(line.split("|")[7]) for line in lines[2:]]
    assert len(ratios) == 4
    assert all(0.9 < ratio < 1.1 for ratio in ratios), ratios


def test_a_plain_module_without_tensors_between_needs_its_input_and_output(tmp_path: Path) -> None:
    class Pixels(nn.Module):
        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            return samples.float().flatten(1)

    path = tmp_path / "m.onnx"
    export_onnx(Pixels(), Signature.of_images((1, 4, 4), classes=16), path)
    assert portable_memory(path).activations >= 16 + 64
