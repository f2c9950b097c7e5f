"""Compare the computed memory of exported files with the memory that onnxruntime takes.

Each file runs in a fresh process, whose arena takes exactly the requested bytes and logs its size. The last column is
the private memory that the process gained by loading the file and running it.

Run: python benchmarks/memory.py
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nas_compress.export.onnx_file import export_onnx
from nas_compress.measurement.memory.graph_memory import GraphMemory, runtime_memory
from nas_compress.models.families import build_student
from nas_compress.quantization.quantize import quantize
from nas_compress.values.signature import Signature
from nets import architecture, random_samples

CHILD = '''
import sys
import numpy as np
import onnxruntime as ort
from onnx import helper

ort.set_default_logger_severity(0)
ort.set_default_logger_verbosity(1)
exact = ort.OrtArenaCfg({"arena_extend_strategy": 1, "initial_chunk_size_bytes": 1})
where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
ort.create_and_register_allocator(where, exact)
freeing = ort.RunOptions()
freeing.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

def opened(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

def private():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

# The arena never frees its first region, which a small run takes.
one = [helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "small", one[:1], one[1:])
small = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
opened(small.SerializeToString()).run(None, {"x": np.zeros(1, np.float32)}, freeing)

before = private()
session = opened(sys.argv[1])
loaded = private() - before
feeds = {
    node.name: np.ones([int(sys.argv[2]), *node.shape[1:]], node.type[7:-1].replace("float", "float32"))
    for node in session.get_inputs()
}
for number in range(3):
    print("RUN", number, file=sys.stderr, flush=True)
    session.run(None, feeds, freeing)
print(loaded)
'''


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Bytes that onnxruntime took: its arena during a run, without weights, and private memory after load."""

    arena: int
    loaded: int


def taken(path: Path, *, batch: int) -> Taken:
    """Run a file in a fresh process and read the log of its arena. The second run has a plan of all tensors."""
    words = [sys.executable, "-W", "ignore", "-c", CHILD, str(path), str(batch)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    before, _, *planned = re.split(r"^RUN \d$", done.stderr, flags=re.MULTILINE)
    reserved = sum(map(int, re.findall(r"Reserving memory in BFCArena for Cpu size: (\d+)", before)))
    first = int(re.findall(r"Total allocated bytes: (\d+)", before)[0])
    most = [int(total) for run in planned for total in re.findall(r"Total allocated bytes: (\d+)", run)]
    return Taken(arena=max(most) - reserved - first, loaded=int(done.stdout))


class Scaled(nn.Module):
    """Raw uint8 samples in, logits of a plain network out."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        outputs: torch.Tensor = self.layers(samples.float() / 255)
        return outputs


class Ladder(nn.Module):
    """An encoder and a decoder with a connection between them, as in a U-net."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.top = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU())
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        self.last = nn.Conv2d(2 * channels, 4, 3, padding=1)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return logits of each pixel."""
        top = self.top(samples)
        outputs: torch.Tensor = self.last(torch.cat([self.up(self.down(top)), top], dim=1)).mean(dim=(2, 3))
        return outputs


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network of raw images, exported at some bits and run at a batch."""

    name: str
    network: nn.Module
    shape: tuple[int, int, int]
    bits: tuple[int, int]
    batch: int = 1


def cases() -> Iterator[Case]:
    """Yield a dozen networks."""
    small, large = (1, 28, 28), (3, 64, 64)
    for family, multiplier, depths in (("resnet", 1.0, (1, 1, 1)), ("mobilenet", 2.0, (1, 1, 1)), ("vit", 1.0, (3,))):
        for bits in ((32, 32), (8, 8)):
            torch.manual_seed(0)
            network = build_student(architecture(family, small, depths=depths, multiplier=multiplier))
            yield Case(name=family, network=network, shape=small, bits=bits)
    torch.manual_seed(0)
    wide = build_student(architecture("resnet", large, depths=(2, 2, 2), multiplier=4.0))
    for bits, batch in (((32, 32), 1), ((32, 32), 8), ((2, 8), 1)):
        yield Case(name="resnet, wide", network=wide, shape=large, bits=bits, batch=batch)
    mobile = build_student(architecture("mobilenet", large, depths=(2, 2, 2), multiplier=2.0))
    yield Case(name="mobilenet", network=mobile, shape=large, bits=(32, 32), batch=4)
    yield Case(name="ladder", network=Scaled(Ladder(32)), shape=large, bits=(32, 32))
    dense = Scaled(nn.Flatten(), nn.Linear(784, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.Tanh(), nn.Linear(2048, 10))
    yield Case(name="perceptron", network=dense, shape=small, bits=(32, 32), batch=64)


def files(folder: Path) -> Iterator[tuple[Case, Path]]:
    """Export each network."""
    for number, case in enumerate(cases()):
        inputs = random_samples(16, case.shape).inputs
        weight_bits, activation_bits = case.bits
        module = quantize(
            case.network.eval(), weight_bits=weight_bits, activation_bits=activation_bits, calibration=inputs
        )
        path = folder / f"{number}.onnx"
        classes = module(inputs["input"][:1]).shape[1]
        export_onnx(module, Signature.of_images(case.shape, classes=classes), path)
        yield case, path


def row(case: Case, computed: GraphMemory, found: Taken) -> str:
    """Return a row of the table."""
    weight_bits, activation_bits = case.bits
    return (
        f"| {case.name} | {'x'.join(map(str, case.shape))} | {weight_bits}/{activation_bits} | {case.batch} "
        f"| {computed.activations:,} | {found.arena:,} | {outside_inputs(case, computed) / found.arena:.3f} "
        f"| {computed.weights:,} | {found.loaded:,} |"
    )


def outside_inputs(case: Case, computed: GraphMemory) -> int:
    """Return the computed bytes without the inputs, which are the caller's and never in the arena."""
    channels, height, width = case.shape
    return computed.activations - case.batch * channels * height * width


def main() -> None:
    print(
        "| network | input | W/A | batch | tensors, bytes | arena, bytes | computed / arena | weights, bytes "
        "| private memory after load |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for case, path in files(Path(folder)):
            print(row(case, runtime_memory(path, batch=case.batch), taken(path, batch=case.batch)), flush=True)


if __name__ == "__main__":
    main()
