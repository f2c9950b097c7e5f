"""Compare the computed memory of exported files with the memory that onnxruntime takes.

The arena column is the smallest arena in which the file runs, found by bisection. The last column is the private memory
that a fresh process gained by loading the file.

Run: python benchmarks/memory.py [NETWORK ...]
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

CHILD = """
import sys
import numpy as np
import onnxruntime as ort

model, batch, arena, limit = sys.argv[1], *map(int, sys.argv[2:])
ort.set_default_logger_severity(0 if arena == 0 else 4)
ort.set_default_logger_verbosity(1)
exact = {"arena_extend_strategy": 1, "initial_chunk_size_bytes": 1}
whole = {"max_mem": limit, "arena_extend_strategy": 0, "initial_chunk_size_bytes": arena}
whole["max_dead_bytes_per_chunk"] = 256
sizes = whole if arena else exact
where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
ort.create_and_register_allocator(where, ort.OrtArenaCfg(sizes))

def private():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.add_session_config_entry("session.use_env_allocators", "1")
options.log_severity_level = 4
before = private()
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
print(private() - before)
print("LOADED", file=sys.stderr, flush=True)
feeds = {
    node.name: np.ones([batch, *node.shape[1:]], node.type[7:-1].replace("float", "float32"))
    for node in session.get_inputs()
}
for _ in range(3):
    session.run(None, feeds)
"""

PRECISION = 1.02
"""Largest ratio of an arena in which a file runs to one in which it does not."""

SLACK = 4096


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Bytes of the smallest arena in which a file runs, without weights, and private memory after load."""

    arena: int
    loaded: int


def taken(path: Path, *, batch: int) -> Taken:
    """Find the smallest arena by bisection, in a fresh process for each size."""
    done = _child(path, batch=batch, arena=0, limit=0)
    done.check_returncode()
    loading = done.stderr.split("LOADED")[0]
    apart = sum(map(int, re.findall(r"Reserving memory in BFCArena for Cpu size: (\d+)", loading)))
    packed = sum(map(int, re.findall(r"Extended allocation by (\d+)", loading)))  # weights too
    runs, fails = 2**14 + packed, packed + 1
    while not _runs(path, batch=batch, arena=runs, weights=apart):
        runs, fails = 2 * runs - packed, runs
    while runs - packed > PRECISION * (fails - packed) + 256:
        middle = (runs + fails) // 2
        if _runs(path, batch=batch, arena=middle, weights=apart):
            runs = middle
        else:
            fails = middle
    return Taken(arena=runs - packed, loaded=int(done.stdout))


def _runs(path: Path, *, batch: int, arena: int, weights: int) -> bool:
    # Weights are counted, but not limited.
    return _child(path, batch=batch, arena=arena, limit=arena + weights + SLACK).returncode == 0


def _child(path: Path, *, batch: int, arena: int, limit: int) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-W", "ignore", "-c", CHILD, str(path), *map(str, (batch, arena, limit))]
    return subprocess.run(words, capture_output=True, text=True)


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
    small, large = (1, 28, 28), (3, 32, 32)
    for family, multiplier, depths in (("resnet", 1.0, (1, 1, 1)), ("mobilenet", 2.0, (1, 1, 1)), ("vit", 1.0, (3,))):
        for bits in ((32, 32), (8, 8)):
            torch.manual_seed(0)
            network = build_student(architecture(family, small, depths=depths, multiplier=multiplier))
            yield Case(name=family, network=network, shape=small, bits=bits)
    torch.manual_seed(0)
    deep = build_student(architecture("resnet", large, depths=(2, 2, 2), multiplier=1.0))
    for bits, batch in (((32, 32), 8), ((2, 8), 1)):
        yield Case(name="resnet, deep", network=deep, shape=large, bits=bits, batch=batch)
    mobile = build_student(architecture("mobilenet", large, depths=(2, 2, 2), multiplier=1.0))
    yield Case(name="mobilenet, deep", network=mobile, shape=large, bits=(32, 32), batch=4)
    yield Case(name="mobilenet, deep", network=mobile, shape=large, bits=(4, 8))
    yield Case(name="ladder", network=Scaled(Ladder(16)), shape=large, bits=(32, 32))
    dense = Scaled(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 10))
    yield Case(name="perceptron", network=dense, shape=small, bits=(32, 32), batch=64)


def files(folder: Path, names: list[str]) -> Iterator[tuple[Case, Path]]:
    """Export the networks of some names; all if there are none."""
    for number, case in enumerate(case for case in cases() if not names or case.name in names):
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
        "| network | input | W/A | batch | tensors and buffers, bytes | smallest arena, bytes | computed / arena "
        "| weights, bytes | private memory after load |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for case, path in files(Path(folder), sys.argv[1:]):
            print(row(case, runtime_memory(path, batch=case.batch), taken(path, batch=case.batch)), flush=True)


if __name__ == "__main__":
    main()
