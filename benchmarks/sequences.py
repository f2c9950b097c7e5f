"""Compare exported files of sequence families with torch and with their integer forms, at one thread and batch 1.

    python benchmarks/sequences.py                  # all networks
    python benchmarks/sequences.py "lstm 128"       # networks with this prefix

The networks are untrained, because latency does not depend on the weights. Latencies of one row are measured in turns
on the clock of the thread, so that their ratios hold on a machine with other work.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nas_compress.devices.onnx_session import open_session
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.measurement.pipeline import Stopwatch, write_file
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.family_settings import FamilySettings, RecurrentSettings
from nas_compress.values.precision import Precision
from nas_compress.values.signature import Signature

VOCABULARY = 4000
TURNS, CALLS = 15, 20


@dataclass(frozen=True, kw_only=True)
class Net:
    """A network with the forms to compare. forms: weight and activation bits by name."""

    name: str
    family: str
    width: int
    depth: int
    settings: FamilySettings
    steps: int
    forms: dict[str, tuple[int, int]]


FLOAT = {"float32": (32, 32)}
LSTM_FORMS = FLOAT | {"weights8": (8, 32), "int8": (8, 8), "int4": (4, 8)}
OTHER_FORMS = FLOAT | {"weights8": (8, 32), "weights4": (4, 32)}


def recurrent(cell: str, width: int, *, depth: int = 1, bidirectional: bool = True, steps: int = 24) -> Net:
    """A recurrent network with an embedding of its own width."""
    return Net(
        name=f"{cell} {width}{' bi' if bidirectional else ''}, {depth} layer(s)",
        family="recurrent",
        width=width,
        depth=depth,
        settings=RecurrentSettings(cell=cell, bidirectional=bidirectional, pooling="last", embedding_width=width),
        steps=steps,
        forms=LSTM_FORMS if cell == "lstm" else OTHER_FORMS,
    )


NETS = (
    recurrent("lstm", 64),
    recurrent("lstm", 128),
    recurrent("lstm", 256),
    recurrent("lstm", 128, depth=2),
    recurrent("lstm", 128, bidirectional=False),
    recurrent("gru", 128),
    recurrent("rnn", 128),
)


def network(net: Net) -> nn.Module:
    """Build the network with fresh weights."""
    known = FAMILIES[net.family]
    layers = known.layers((net.depth,), (net.width,), net.settings)
    shape = Architecture(
        family=net.family,
        signature=Signature.of_tokens(vocabulary=VOCABULARY, classes=2),
        depths=(net.depth,),
        widths=tuple(Width(layer=layer, asked=base, channels=base) for layer, base in layers),
        settings=net.settings,
    )
    torch.manual_seed(0)
    return build_student(known.complete(shape)).eval()


def fastest(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the least mean microseconds of each call, taken in turns of CALLS calls."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(TURNS):
        for name, call in calls.items():
            call()
            began = time.thread_time()
            for _ in range(CALLS):
                call()
            best[name] = min(best[name], (time.thread_time() - began) / CALLS * 1e6)
    return best


def row(net: Net, folder: Path) -> str:
    """Measure one network: microseconds and bytes of each form, and the ratios to float32."""
    student, signature = network(net), Signature.of_tokens(vocabulary=VOCABULARY, classes=2)
    tokens = torch.randint(1, VOCABULARY, (64, net.steps), dtype=torch.int32)
    sample = tokens[:1]
    calls: dict[str, Callable[[], object]] = {}
    sizes = {}
    for name, (weights, activations) in net.forms.items():
        path = folder / f"{name}.onnx"
        write_file(
            student,
            path,
            signature=signature,
            precision=Precision(weight_bits=weights, activation_bits=activations),
            calibration={"input": tokens},
            watch=Stopwatch(),
        )
        session, given = open_session(path), {"input": sample.numpy()}
        calls[name] = lambda session=session, given=given: session.run(None, given)
        sizes[name] = path.stat().st_size
    with torch.inference_mode():
        found = fastest(calls | {"torch": lambda: student(sample)})
    cells = [f"{name} {found[name]:.0f} us, {sizes[name] / 1000:.0f} kB" for name in net.forms]
    ratios = [f"{name} {found['float32'] / found[name]:.2f}x" for name in net.forms if name != "float32"]
    eager = f"torch {found['torch']:.0f} us ({found['torch'] / found['float32']:.1f}x)"
    return f"| {net.name}, {net.steps} steps | {'; '.join(cells)} | {'; '.join(ratios)} | {eager} |"


def main() -> None:
    """Print a table."""
    chosen = tuple(sys.argv[1:])
    torch.set_num_threads(1)
    print(f"{describe_machine()}\n")
    print("| network | forms | float32 / form | torch eager (/ float32) |\n|---|---|---|---|")
    for net in NETS:
        if not chosen or net.name.startswith(chosen):
            with tempfile.TemporaryDirectory() as folder:
                print(row(net, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
