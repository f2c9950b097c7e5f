"""Check and time what only a GPU can show, in under six minutes; `--device cpu --tiny` proves that the script runs.

    python benchmarks/gpu.py [--device cuda] [--seconds 10]

- `study`: a digits study end to end on the device, with the state of each trial.
- `step`: a step of training in float32 and in bfloat16, with samples on the device, for two families and three sizes.
- `resident`: the same step with samples that are copied from the host for each batch.
- `workers`: trainings per minute of one process and of two on one card.
- `graph`: replays of a captured step of a small network against the step as it is.
- `teacher`: a step of a residual network on 224 x 224 pixels.

Times are medians between synchronisations, alternately taken for two contenders.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.models.families import build_student, family_named
from nets import architecture, random_samples

SIZES = {"small": ((1, 8, 8), 64), "medium": ((1, 28, 28), 128), "large": ((3, 96, 96), 64)}
STUDY = """
name = "gpu"
space = "cnn"
trials = {trials}
device = "{device}"

[data]
name = "digits"

[teacher]
epochs = {epochs}

[training]
epochs = {epochs}
"""


def synchronised(device: str) -> float:
    """Return the clock after all work of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def alternate(contenders: dict[str, Callable[[], object]], device: str, seconds: float) -> dict[str, float]:
    """Return the median milliseconds of each contender, one call after another in turn."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken[next(iter(taken))]) < 3:
        for name, call in contenders.items():
            started = synchronised(device)
            call()
            taken[name].append(1e3 * (synchronised(device) - started))
    return {name: statistics.median(times) for name, times in taken.items()}


def network(family: str, size: str, device: str) -> nn.Module:
    shape, _ = SIZES[size]
    torch.manual_seed(0)
    built = build_student(architecture(family, shape, depths=family_named(family).base_depths, multiplier=1.0))
    return built.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload,no-any-return]


def stepper(model: nn.Module, samples: Tensor, labels: Tensor, *, half: bool) -> Callable[[], None]:
    """Return a training step. samples: on the device of the model or on the host."""
    device = next(model.parameters()).device
    captured = device.type == "cuda"  # a step of it can be captured
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True, capturable=captured)

    def step() -> None:
        optimiser.zero_grad(set_to_none=False)
        batch, answers = samples.to(device), labels.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            logits = model(batch)
        F.cross_entropy(logits.float(), answers).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def steps(device: str, seconds: float) -> None:
    for size, (shape, batch) in SIZES.items():
        split = random_samples(batch, shape)
        samples, labels = split.inputs["input"], split.targets["label"]
        for family in ("resnet", "mobilenet"):
            there, answers = samples.to(device), labels.to(device)
            found = alternate(
                {
                    "float32": stepper(network(family, size, device), there, answers, half=False),
                    "bfloat16": stepper(network(family, size, device), there, answers, half=True),
                    "copied": stepper(network(family, size, device), samples, labels, half=True),
                },
                device,
                seconds,
            )
            told = "  ".join(f"{name} {ms:.2f} ms" for name, ms in found.items())
            print(f"step {family:9} {size:6} {told}  bfloat16 / float32 {found['bfloat16'] / found['float32']:.2f}")


def graphs(device: str, seconds: float) -> None:
    """Compare a captured step of a small network with the step as it is."""
    if device != "cuda":
        print("graph: CUDA graphs need a GPU; left out")
        return
    split = random_samples(64, (1, 8, 8))
    model = network("mobilenet", "small", device)
    step = stepper(model, split.inputs["input"].to(device), split.targets["label"].to(device), half=False)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        step()
    plain = stepper(
        network("mobilenet", "small", device),
        split.inputs["input"].to(device),
        split.targets["label"].to(device),
        half=False,
    )
    found = alternate({"as it is": plain, "captured": recorded.replay}, device, seconds)
    print(f"graph mobilenet small  as it is {found['as it is']:.2f} ms  captured {found['captured']:.2f} ms")


def train_for(device: str, seconds: float, side: int, counted: multiprocessing.Queue[int] | None = None) -> int:
    """Return the number of steps of a residual network on pictures of this side in this time."""
    split = random_samples(128 if side > 8 else 4, (1, side, side))
    torch.manual_seed(0)
    shape = architecture("resnet", (1, side, side), depths=(1, 1, 1), multiplier=1.0)
    step = stepper(
        build_student(shape).to(device).train(),
        split.inputs["input"].to(device),
        split.targets["label"].to(device),
        half=True,
    )
    step()
    count, end = 0, synchronised(device) + seconds
    while synchronised(device) < end:
        step()
        count += 1
    if counted is not None:
        counted.put(count)
    return count


def workers(device: str, seconds: float, *, side: int) -> None:
    context = multiprocessing.get_context("spawn")
    alone = train_for(device, seconds, side)
    counted: multiprocessing.Queue[int] = context.Queue()
    started = [context.Process(target=train_for, args=(device, seconds, side, counted)) for _ in range(2)]
    for process in started:
        process.start()
    together = sum(counted.get(timeout=300) for _ in started)
    for process in started:
        process.join()
    print(f"workers: {alone} steps alone, {together} steps of two processes, ratio {together / max(1, alone):.2f}")


def teacher(device: str, seconds: float, *, side: int) -> None:
    """Time a residual network on large pictures, in both formats."""
    split = random_samples(16, (3, side, side))
    torch.manual_seed(0)
    shape = architecture("resnet", (3, side, side), depths=(1, 1, 1), multiplier=1.0)
    models = [build_student(shape).to(device).train() for _ in range(2)]
    there, answers = split.inputs["input"].to(device), split.targets["label"].to(device)
    found = alternate(
        {
            "float32": stepper(models[0], there, answers, half=False),
            "bfloat16": stepper(models[1], there, answers, half=True),
        },
        device,
        seconds,
    )
    print(f"teacher {side} x {side}, batch 16: float32 {found['float32']:.1f} ms, bfloat16 {found['bfloat16']:.1f} ms")


def study(device: str, *, trials: int, epochs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="nas_compress_") as folder:
        file = Path(folder) / "study.toml"
        file.write_text(STUDY.format(device=device, trials=trials, epochs=epochs), encoding="utf-8")
        started = time.perf_counter()
        command = [sys.executable, "-m", "nas_compress", "run", str(file), "--out", f"{folder}/run", "--workers", "1"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        lines = (ended.stdout + ended.stderr).strip().splitlines()
        print(f"study: exit {ended.returncode}, {time.perf_counter() - started:.0f} s; {lines[-1] if lines else ''}")


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each comparison")
    parser.add_argument("--tiny", action="store_true", help="the least work that runs every part")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu.py needs a GPU that torch can use, but there is none; --device cpu --tiny runs its parts anyway")
    name = torch.cuda.get_device_name() if given.device == "cuda" else "CPU"
    print(f"{name}; torch {torch.__version__}", flush=True)
    if given.device == "cpu":
        torch.set_num_threads(1)
    seconds = 0.1 if given.tiny else given.seconds
    if given.tiny:
        SIZES.clear()
        SIZES["small"] = ((1, 8, 8), 4)
    steps(given.device, seconds)
    graphs(given.device, seconds)
    teacher(given.device, seconds, side=32 if given.tiny else 224)
    workers(given.device, 0.5 if given.tiny else 3 * seconds, side=8 if given.tiny else 28)
    study(given.device, trials=1 if given.tiny else 12, epochs=1 if given.tiny else 20)


if __name__ == "__main__":
    main()
