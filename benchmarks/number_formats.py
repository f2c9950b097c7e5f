"""Compare training steps with bfloat16 products with steps in float32, and both with the processor's peak.

    python benchmarks/number_formats.py [--seconds 5] [--only resnet]

A step is forward, cross-entropy, backward and fused AdamW on a prepared batch, as `train` takes it. Steps of both
formats take turns. Times are processor times of one thread. The ratio is the median over all turns, in brackets the
middle half. The peak is that of float32 products of 1,024 x 1,024 in the same process; a step counts as three times the
multiply-adds of its forward pass. Width: a multiple of the base widths for resnet and mobilenet, else that of the first
layer.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.models.macs import count_macs
from nas_compress.models.onednn_workaround import safe_backward
from nas_compress.training.precision import Products, mixed_precision, training_in
from nas_compress.training.runtime import keep_freed_memory, memory_format_for
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.family_settings import family_settings
from nas_compress.values.signature import BATCH, Signature, TensorSpec

VOCABULARY, WARM_UP = 4000, 2
PEAK_SIDE, PEAK_CALLS = 1024, 10

Shape = tuple[int, ...]
"""Of a sample: (C, H, W) of an image, (C, T) of a series, (T,) of tokens."""

IMAGES = ("resnet", "mobilenet")
"""Families whose width is a multiple of the base widths, not that of the first layer."""

CASES: tuple[tuple[str, float, Shape, int], ...] = (
    *((family, width, (1, 8, 8), batch) for family in IMAGES for width, batch in ((1, 32), (1, 128), (2, 64), (4, 64))),
    *((family, width, (1, 16, 16), 64) for family in IMAGES for width in (1, 2)),
    *((family, width, (1, 28, 28), batch) for family in IMAGES for width, batch in ((0.5, 64), (1, 128), (2, 128))),
    *((family, width, (3, 96, 96), 32) for family in IMAGES for width in (0.5, 1, 2)),
    *(("vit", width, (1, 28, 28), batch) for width, batch in ((32, 32), (64, 32), (64, 128), (128, 128), (256, 64))),
    *(("encoder", width, (24,), batch) for width, batch in ((32, 32), (64, 32), (128, 32), (256, 32), (384, 32))),
    *(("encoder", width, (64,), 32) for width in (64, 128, 256)),
    *(("lstm", width, (24,), 32) for width in (64, 128, 256)),
    *(("gru", width, (24,), 32) for width in (64, 128, 256)),
    *(("text_cnn", width, (24,), batch) for width, batch in ((64, 32), (128, 32), (256, 128))),
    *(("conv1d", width, (6, 128), batch) for width, batch in ((16, 32), (32, 64), (64, 64), (128, 64))),
    *(("mlp", width, (64,), batch) for width, batch in ((64, 32), (256, 64), (1024, 128))),
    *(("unet", width, (1, 32, 32), 32) for width in (8, 16, 32)),
)
"""Family or cell, width, shape of a sample, batch size."""


def signature_of(family: str, shape: Shape) -> Signature:
    """Of ten classes, or ten for each pixel."""
    if family in ("encoder", "lstm", "gru", "text_cnn"):
        return Signature.of_tokens(vocabulary=VOCABULARY, classes=10)
    out = (BATCH, 10, *shape[1:]) if family == "unet" else (BATCH, 10)
    kind = "uint8" if len(shape) == 3 else "float32"
    return Signature(
        inputs=(TensorSpec(name="input", dtype=kind, shape=(BATCH, *shape)),),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=out),),
    )


def network(name: str, width: float, shape: Shape) -> nn.Module:
    """Build a network with fresh weights."""
    family = "recurrent" if name in ("lstm", "gru") else name
    known, given = FAMILIES[family], family_settings(family, {"cell": name} if family == "recurrent" else {})
    depths, first = known.base_depths, known.base_widths[0]
    multiple = width if name in IMAGES else width / first
    layers = known.layers(depths, tuple(round(multiple * channels) for channels in known.base_widths), given)
    architecture = Architecture(
        family=family,
        signature=signature_of(name, shape),
        depths=depths,
        widths=tuple(Width(layer=layer, asked=channels, channels=channels) for layer, channels in layers),
        settings=given,
    )
    torch.manual_seed(0)
    return build_student(known.complete(architecture))


def samples(name: str, shape: Shape, count: int) -> Tensor:
    """Random samples."""
    if signature_of(name, shape).inputs[0].values is not None:
        return torch.randint(1, VOCABULARY, (count, *shape), dtype=torch.int32)
    if len(shape) == 3:
        return torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
    return torch.randn(count, *shape)


def step_of(model: nn.Module, batch: Tensor, labels: Tensor, products: Products) -> Callable[[], None]:
    """Return a step of a training in that format."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    cpu = torch.device("cpu")

    def step() -> None:
        with training_in(products, model), safe_backward(model):
            with mixed_precision(cpu):
                logits = model(batch)
            optimizer.zero_grad(set_to_none=False)
            F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return step


def peak() -> float:
    """Return the multiply-adds per second of large float32 products."""
    one = torch.randn(PEAK_SIDE, PEAK_SIDE)
    taken = []
    for _ in range(PEAK_CALLS):
        began = time.process_time()
        torch.mm(one, one)
        taken.append(time.process_time() - began)
    return PEAK_SIDE**3 / min(taken)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each network")
    parser.add_argument("--only", action="append", help="only these families")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    fastest = peak()
    print(f"{describe_machine()}; torch {torch.__version__}, 1 thread, peak {fastest / 1e9:.0f} G multiply-adds/s\n")
    print("| network | sample | batch | million macs of a batch | float32, ms | of the peak | bfloat16 / float32 | n |")
    print("|---|---|---|---|---|---|---|---|")
    for name, width, shape, size in CASES:
        if chosen.only and name not in chosen.only:
            continue
        batch = samples(name, shape, size)
        labels = torch.randint(0, 10, (size, *shape[1:]) if name == "unet" else (size,))
        model = network(name, width, shape)
        macs = size * count_macs(model, {"input": batch[:1]})
        formats: tuple[Products, ...] = ("float32", "bfloat16")
        steps = {}
        for products in formats:
            model = network(name, width, shape)
            model.to(memory_format=memory_format_for(model, {"input": batch[:2]}))  # type: ignore[call-overload]
            steps[products] = step_of(model.train(), batch, labels, products)
        taken: dict[str, list[float]] = {products: [] for products in formats}
        end = time.perf_counter() + chosen.seconds
        while time.perf_counter() < end or len(taken["float32"]) < WARM_UP + 4:
            for products in formats:
                began = time.process_time()
                steps[products]()
                taken[products].append(time.process_time() - began)
        plain, half = (taken[products][WARM_UP:] for products in formats)
        low, middle, high = statistics.quantiles([b / a for a, b in zip(plain, half, strict=True)], n=4)
        print(
            f"| {name} {width:g} | {'x'.join(map(str, shape))} | {size} | {macs / 1e6:,.0f} | {1e3 * min(plain):.1f} "
            f"| {3 * macs / min(plain) / fastest:.0%} | {middle:.2f} [{low:.2f}-{high:.2f}] | {len(plain)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
