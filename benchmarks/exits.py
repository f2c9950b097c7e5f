"""Early exits in a file: cost of a gate beyond its head, and of a path that never exits, over the file without exits.

All files of one network run in turns: without exits, never leaving, leaving at each exit, and the part up to the head
of the first exit. A block is RUNS runs by the CPU clock of the thread. The table has the median over BLOCKS blocks of
the median of a block, and ratios and differences of neighbours in time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from functools import partial
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

import onnx
from onnx import TensorProto, helper

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
DEPTHS, BITS = ((1, 1, 1), (2, 2, 2)), ((32, 32), (8, 8))


def main() -> None:
    """Print the table."""
    print("| blocks | bits | plain, us | never / plain | exit 0, us | exit 1, us | gate beyond head, us | n |")
    print("|---|---|---|---|---|---|---|---|")
    for depths in DEPTHS:
        for bits in BITS:
            with tempfile.TemporaryDirectory() as folder:
                times = in_turns(files(Path(folder), depths, bits))
            plain, never, head = times["plain"], times["never"], times["head"]
            ratio = median(one / other for one, other in zip(never, plain, strict=True))
            gate = median(one - other for one, other in zip(times["exit 0"], head, strict=True))
            cells = [f"{median(times[name]):.0f}" for name in ("plain", "exit 0", "exit 1")]
            words = [f"{depths}", f"{bits[0]}/{bits[1]}", cells[0], f"{ratio:.3f}", *cells[1:], f"{gate:.1f}"]
            print(f"| {' | '.join(words)} | {BLOCKS} |", flush=True)


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


def in_turns(contents: Mapping[str, bytes]) -> dict[str, list[float]]:
    """Return the microseconds of each block of each file; the files take turns."""
    sessions = {name: start_session(content) for name, content in contents.items()}
    samples = random_samples(RUNS, SHAPE).inputs["input"].numpy()
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
