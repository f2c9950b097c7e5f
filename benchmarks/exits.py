"""Early exits in a file: cost of a gate beyond its head, and of a path that never exits, over the file without exits.

All files of one network run in turns: without exits, never leaving, leaving at each exit, and the part up to the head
of the first exit. A block is RUNS runs by the CPU clock of the thread. The first table has medians over BLOCKS blocks
of a block's median, and ratios and differences of neighbours in time; `fastest` compares the fastest tenths of the
blocks, as other programs slow the others. The second table has parts of a gate, each behind a linear layer alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas_compress.devices.onnx_session import read_model, start_session
from nas_compress.export.nested_exits import with_thresholds
from nas_compress.export.onnx_file import export_onnx
from nas_compress.models.exits.network import EarlyExits, exit_signature
from nas_compress.models.families import build_student
from nas_compress.quantization.quantize import quantize
from nas_compress.values.candidate import Exits
from nets import architecture, random_samples

BLOCKS, RUNS = 60, 20
SHAPE = (1, 28, 28)
PLACES = ("stage0", "stage1")
WIDTH = 32
"""Inputs of the linear layer of a gate alone."""

LINEAR = "linear layer alone"
PARTS: dict[str, set[str]] = {
    LINEAR: set(),
    "second output": {"second"},
    "comparison of two numbers": {"compare"},
    "comparison, `If` with copies": {"compare", "branch"},
    "comparison, `If`, second output": {"compare", "branch", "second"},
    "softmax, maximum, comparison, `If`, second output": {"confidence", "compare", "branch", "second"},
}

DEPTHS, BITS = ((1, 1, 1), (2, 2, 2)), ((32, 32), (8, 8))


def main() -> None:
    """Print the table."""
    columns = ("blocks", "bits", "plain, us", "never / plain", "fastest", "exit 0, us", "exit 1, us")
    print(f"| {' | '.join(columns)} | gate beyond head, us | fastest | n |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for depths in DEPTHS:
        for bits in BITS:
            with tempfile.TemporaryDirectory() as folder:
                times = in_turns(files(Path(folder), depths, bits), random_samples(RUNS, SHAPE).inputs["input"].numpy())
            plain, never, head = times["plain"], times["never"], times["head"]
            ratio = median(one / other for one, other in zip(never, plain, strict=True))
            gate = median(one - other for one, other in zip(times["exit 0"], head, strict=True))
            cells = [f"{median(times[name]):.0f}" for name in ("plain", "exit 0", "exit 1")]
            quick = {name: fast(found) for name, found in times.items()}
            ratios = [f"{ratio:.3f}", f"{quick['never'] / quick['plain']:.3f}"]
            gates = [f"{gate:.1f}", f"{quick['exit 0'] - quick['head']:.1f}"]
            words = [f"{depths}", f"{bits[0]}/{bits[1]}", cells[0], *ratios, *cells[1:], *gates]
            print(f"| {' | '.join(words)} | {BLOCKS} |", flush=True)
    print("\n| gate alone | us beyond the linear layer | fastest |\n|---|---|---|")
    numbers = np.random.default_rng(0).normal(size=(RUNS, WIDTH)).astype(np.float32)
    found = in_turns({name: gate_alone(name) for name in PARTS}, numbers)
    for name, own in list(found.items())[1:]:
        beyond = median(one - other for one, other in zip(own, found[LINEAR], strict=True))
        print(f"| {name} | {beyond:.1f} | {fast(own) - fast(found[LINEAR]):.1f} |")


def files(folder: Path, depths: tuple[int, ...], bits: tuple[int, int]) -> dict[str, bytes]:
    """Return the files of a network by name."""
    made = architecture("resnet", SHAPE, depths=depths, multiplier=1.0)
    network, samples = build_student(made).eval(), random_samples(64, SHAPE).inputs
    rounded = partial(quantize, weight_bits=bits[0], activation_bits=bits[1], calibration=samples)
    export_onnx(rounded(network), made.signature, folder / "plain.onnx")
    exits = EarlyExits(network, Exits(after=PLACES), sample=samples["input"][:2]).eval()
    signature = exit_signature(made.signature)
    export_onnx(rounded(exits), signature, folder / "exits.onnx")
    model = read_model(folder / "exits.onnx")
    chosen = {"never": (inf, inf), "exit 0": (-inf, inf), "exit 1": (inf, -inf)}
    found = {name: with_thresholds(model, thresholds).SerializeToString() for name, thresholds in chosen.items()}
    return {"plain": (folder / "plain.onnx").read_bytes(), **found, "head": first_head(model).SerializeToString()}


def first_head(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the part of a file up to the answers of its first exit, which the first branch passes on."""
    gate = next(node for node in model.graph.node if node.op_type == "If")
    leaving = next(attribute.g for attribute in gate.attribute if attribute.name == "then_branch")
    needed = {next(node.input[0] for node in leaving.node if node.op_type == "Identity")}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in needed]
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.insert(0, node)
            needed.update(node.input)
    stored = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    inputs = [value for value in model.graph.input if value.name in needed]
    graph = helper.make_graph(kept, "n", inputs, outputs, stored)
    return helper.make_model(graph, ir_version=model.ir_version, opset_imports=model.opset_import)


def gate_alone(name: str) -> bytes:
    """Return a file of a linear layer and some parts of a gate; the branches copy its answers."""
    random, parts = np.random.default_rng(0), PARTS[name]
    stored = {
        "weight": random.normal(size=(10, WIDTH)).astype(np.float32),
        "bias": np.zeros(10, dtype=np.float32),
        "axis": np.array([1], dtype=np.int64),
        "threshold": np.array([0.5], dtype=np.float32),
        "largest": np.array([0.4], dtype=np.float32),
    }
    nodes = [helper.make_node("Gemm", ["input", "weight", "bias"], ["answers"], transB=1)]
    outputs = [helper.make_tensor_value_info("answers", TensorProto.FLOAT, (1, 10))]
    if "confidence" in parts:
        del stored["largest"]
        nodes.append(helper.make_node("Softmax", ["answers"], ["probabilities"], axis=1))
        nodes.append(helper.make_node("ReduceMax", ["probabilities", "axis"], ["largest"], keepdims=0))
    if "compare" in parts:
        nodes.append(helper.make_node("GreaterOrEqual", ["largest", "threshold"], ["leaves"]))
        outputs.append(helper.make_tensor_value_info("leaves", TensorProto.BOOL, None))
    if "branch" in parts:
        sides = [_side(number, second="second" in parts) for number in (0, 1)]
        names = ["logits", "exit"] if "second" in parts else ["logits"]
        nodes.append(helper.make_node("If", ["leaves"], names, then_branch=sides[0], else_branch=sides[1]))
        outputs = [helper.make_empty_tensor_value_info(each) for each in names]
    elif "second" in parts:
        nodes.append(_number(0, "exit"))
        outputs.append(helper.make_tensor_value_info("exit", TensorProto.INT64, None))
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, WIDTH))]
    inputs += [helper.make_tensor_value_info("threshold", TensorProto.FLOAT, (1,))] if "compare" in parts else []
    read = {each for node in nodes for each in node.input}
    tensors = [numpy_helper.from_array(value, each) for each, value in stored.items() if each in read]
    graph = helper.make_graph(nodes, "n", inputs, outputs, tensors)
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
    return bytes(model.SerializeToString())


def _side(number: int, *, second: bool) -> onnx.GraphProto:
    nodes = [helper.make_node("Identity", ["answers"], [f"logits{number}"])]
    ends = [helper.make_tensor_value_info(f"logits{number}", TensorProto.FLOAT, None)]
    if second:
        nodes.append(_number(number, f"exit{number}"))
        ends.append(helper.make_tensor_value_info(f"exit{number}", TensorProto.INT64, None))
    return helper.make_graph(nodes, "n", [], ends)


def _number(number: int, name: str) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array([number], dtype=np.int64)))


def fast(times: Sequence[float]) -> float:
    """Return the time that a tenth of the blocks do not reach."""
    return float(np.quantile(times, 0.1))


def in_turns(contents: Mapping[str, bytes], samples: Any) -> dict[str, list[float]]:
    """Return the microseconds of each block of each file; the files take turns. samples: RUNS of them."""
    sessions = {name: start_session(content) for name, content in contents.items()}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(BLOCKS + 1):
        for name, session in sessions.items():
            found = [_seconds(session, samples[place : place + 1]) for place in range(RUNS)]
            if turn:  # the first turn warms up
                times[name].append(median(found) * 1e6)
    return times


def _seconds(session: Any, sample: Any) -> float:
    start = time.thread_time()
    session.run(None, {"input": sample})
    return time.thread_time() - start


if __name__ == "__main__":
    main()
