"""Compare exported files of sequence families with torch and with their integer forms, at one thread and batch 1.

    python benchmarks/sequences.py                  # all networks
    python benchmarks/sequences.py "lstm 128"       # networks with this prefix

The networks are untrained, because latency does not depend on the weights. Latencies of one row are measured in turns
on the clock of the thread, so that their ratios hold on a machine with other work. A ratio is that of the least times,
and in brackets the median of those of each turn.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nas_compress.devices.onnx_session import open_session
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.measurement.pipeline import Stopwatch, write_file
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.family_settings import (
    BagSettings,
    EncoderSettings,
    FamilySettings,
    RecurrentSettings,
    TextConvolutionSettings,
    TransformerSettings,
)
from nas_compress.values.precision import DYNAMIC, Precision, Quantization
from nas_compress.values.signature import Signature

VOCABULARY = 4000
TURNS, CALLS = 15, 20
IMAGE = 28
"""Side of the images of the vision transformer."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """A number format of a file: bits of weights and activations, and the rule of ranges."""

    weights: int = 32
    activations: int = 32
    ranges: str = ""


@dataclass(frozen=True, kw_only=True)
class Net:
    """A network with the forms to compare, by name. steps: lengths of the sample; 0 for an image."""

    name: str
    family: str
    width: int
    depth: int
    settings: FamilySettings
    steps: tuple[int, ...]
    forms: dict[str, Form]
    vocabulary: int = VOCABULARY


FLOAT = {"float32": Form()}
STORED = FLOAT | {"weights8": Form(weights=8), "weights4": Form(weights=4), "weights2": Form(weights=2)}
STATIC = FLOAT | {"int8": Form(weights=8, activations=8), "int4": Form(weights=4, activations=8)}
OWN_RANGES = {
    "int8": Form(weights=8, activations=8, ranges=DYNAMIC),
    "int4": Form(weights=4, activations=8, ranges=DYNAMIC),
    "static": Form(weights=8, activations=8),
}


def recurrent(cell: str, width: int, *, depth: int = 1, bidirectional: bool = True) -> Net:
    """A recurrent network with an embedding of its own width."""
    return Net(
        name=f"{cell} {width}{' bi' if bidirectional else ''}, {depth} layer(s)",
        family="recurrent",
        width=width,
        depth=depth,
        settings=RecurrentSettings(cell=cell, bidirectional=bidirectional, pooling="last", embedding_width=width),
        steps=(24,),
        forms=STATIC | {"weights8": Form(weights=8)} if cell == "lstm" else STORED,
    )


def encoder(width: int) -> Net:
    """Two layers with an inner width of four times the stream's."""
    settings = EncoderSettings(heads=4, mlp_ratio=4.0)
    return Net(
        name=f"encoder {width}", family="encoder", width=width, depth=2, settings=settings, steps=(16, 64, 128),
        forms=FLOAT | OWN_RANGES,
    )  # fmt: skip


def minilm() -> Net:
    """An encoder of the size of all-MiniLM-L6: six layers and its vocabulary."""
    settings = EncoderSettings(heads=12, mlp_ratio=4.0, max_tokens=512)
    return Net(
        name="encoder 384, 6 layers", family="encoder", width=384, depth=6, settings=settings, steps=(24,),
        forms=FLOAT | {name: OWN_RANGES[name] for name in ("int8", "int4")}, vocabulary=30522,
    )  # fmt: skip


def text_cnn(width: int) -> Net:
    """Three kernel sizes, an embedding as wide as the filters are many."""
    settings = TextConvolutionSettings()
    return Net(
        name=f"text cnn {width}", family="text_cnn", width=width, depth=1, settings=settings, steps=(24, 50),
        forms=STATIC,
    )  # fmt: skip


def embedding(width: int) -> Net:
    """A mean of embeddings, with hardly anything but the look-up."""
    return Net(
        name=f"embedding {width}", family="text_bag", width=width, depth=1, settings=BagSettings(), steps=(24,),
        forms=STORED,
    )  # fmt: skip


def vit(width: int) -> Net:
    """Four layers on an image of 28 x 28, patches of 4 x 4."""
    settings = TransformerSettings(heads=4, mlp_ratio=2.0, patch_size=4)
    return Net(
        name=f"vit {width}", family="vit", width=width, depth=4, settings=settings, steps=(0,),
        forms=FLOAT | OWN_RANGES,
    )  # fmt: skip


NETS = (
    *(encoder(width) for width in (64, 128, 256)),
    minilm(),
    *(vit(width) for width in (64, 128, 256)),
    *(text_cnn(width) for width in (64, 128)),
    *(embedding(width) for width in (128, 384)),
    recurrent("lstm", 64),
    recurrent("lstm", 128),
    recurrent("lstm", 256),
    recurrent("lstm", 128, depth=2),
    recurrent("lstm", 128, bidirectional=False),
    recurrent("gru", 128),
    recurrent("rnn", 128),
)


def signature_of(net: Net) -> Signature:
    """Token ids, or an image."""
    if net.family == "vit":
        return Signature.of_images((1, IMAGE, IMAGE), classes=10)
    return Signature.of_tokens(vocabulary=net.vocabulary, classes=2)


def samples_of(net: Net, steps: int, count: int) -> torch.Tensor:
    """Random samples."""
    if net.family == "vit":
        return torch.randint(0, 256, (count, 1, IMAGE, IMAGE), dtype=torch.uint8)
    return torch.randint(1, net.vocabulary, (count, steps), dtype=torch.int32)


def network(net: Net) -> nn.Module:
    """Build the network with fresh weights."""
    known = FAMILIES[net.family]
    layers = known.layers((net.depth,), (net.width,), net.settings)
    shape = Architecture(
        family=net.family,
        signature=signature_of(net),
        depths=(net.depth,),
        widths=tuple(Width(layer=layer, asked=base, channels=base) for layer, base in layers),
        settings=net.settings,
    )
    torch.manual_seed(0)
    return build_student(known.complete(shape)).eval()


def in_turns(calls: dict[str, Callable[[], object]]) -> dict[str, np.ndarray]:
    """Return the mean microseconds of each call in each turn of CALLS calls."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, call in calls.items():
            call()
            began = time.thread_time()
            for _ in range(CALLS):
                call()
            found[name].append((time.thread_time() - began) / CALLS * 1e6)
    return {name: np.array(values) for name, values in found.items()}


def ratio(one: np.ndarray, other: np.ndarray) -> str:
    """Return how many times longer `one` takes, by the least times and by the median of the turns."""
    return f"{one.min() / other.min():.2f}x [{np.median(one / other):.2f}]"


def rows(net: Net, folder: Path) -> Iterator[str]:
    """Measure one network at each length: microseconds and bytes of each form, and the ratios to float32."""
    student, signature = network(net), signature_of(net)
    sessions, sizes = {}, {}
    for name, form in net.forms.items():
        path = folder / f"{name}.onnx"
        write_file(
            student,
            path,
            signature=signature,
            precision=Precision(
                weight_bits=form.weights,
                activation_bits=form.activations,
                quantization=Quantization(ranges=form.ranges, end_bits=min(8, form.weights)),
            ),
            calibration={"input": samples_of(net, net.steps[0], 64)},
            watch=Stopwatch(),
        )
        sessions[name], sizes[name] = open_session(path), path.stat().st_size
    for steps in net.steps:
        sample = samples_of(net, steps, 1)
        given = {"input": sample.numpy()}
        calls: dict[str, Callable[[], object]] = {
            name: functools.partial(session.run, None, given) for name, session in sessions.items()
        }
        with torch.inference_mode():
            found = in_turns(calls | {"torch": functools.partial(student, sample)})
        cells = [f"{name} {found[name].min():.0f} us, {sizes[name] / 1000:.0f} kB" for name in net.forms]
        ratios = [f"{name} {ratio(found['float32'], found[name])}" for name in net.forms if name != "float32"]
        eager = f"{found['torch'].min():.0f} us, {ratio(found['torch'], found['float32'])}"
        length = f", {steps} steps" if steps else ""
        yield f"| {net.name}{length} | {'; '.join(cells)} | {'; '.join(ratios)} | {eager} |"


def main() -> None:
    """Print a table."""
    chosen = tuple(sys.argv[1:])
    torch.set_num_threads(1)
    print(f"{describe_machine()}, {TURNS} turns of {CALLS} calls\n")
    print("| network | forms | float32 / form | torch eager (/ float32) |\n|---|---|---|---|")
    for net in NETS:
        if not chosen or net.name.startswith(chosen):
            with tempfile.TemporaryDirectory() as folder:
                for row in rows(net, Path(folder)):
                    print(row, flush=True)


if __name__ == "__main__":
    main()
