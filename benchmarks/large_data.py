"""Measure memory and steps with data that are read from a memory-mapped store.

    python benchmarks/large_data.py [--pictures 20000] [--side 224] [--pairs 100]

A data set of made pictures, about 3 GB, is used by `init`, `check` and `run` in processes of their own, with a cache of
their own. Printed is the peak of the resident memory of the largest process of each command, as the kernel counts it,
and its time. Then training steps of one small network take their batches from the store and from tensors in memory in
turn: the median of the ratios of neighbours, in brackets the middle half. The pages are in the system's file cache. All
files are removed at the end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.data.dataset import Split
from nas_compress.data.load_dataset import load_dataset
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.models.families import build_student
from nas_compress.tasks.batch import Batch, chosen, to_tensors
from nas_compress.tasks.memory_map import MappedTensor
from nas_compress.values.family_settings import family_settings
from nets import architecture

DATA = '''"""Made pictures: each class has a brightness of its own."""
import numpy as np
from torch.utils.data import Dataset


class Made(Dataset):
    def __init__(self, start, count):
        self.start, self.count = start, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        pixels = np.random.default_rng(self.start + index).integers(0, 176, (3, {side}, {side}), dtype=np.uint8)
        return pixels + 8 * (index % 10), index % 10


def load():
    return {{"train": Made(0, {train}), "test": Made({train}, {test})}}
'''

BATCH = 32
RESIDENT = 2_000
"""Pictures in memory, against which the store is compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=224, help="pixels of a side")
    parser.add_argument("--pairs", type=int, default=100, help="neighbouring steps, after two for warming up")
    given = parser.parse_args()
    print(f"{describe_machine()}; torch {torch.__version__}")
    folder = Path(tempfile.mkdtemp(prefix="nas_compress_large_"))
    os.environ["NAS_COMPRESS_CACHE"] = str(folder / "cache")
    try:
        test = given.pictures // 10
        code = DATA.format(side=given.side, train=given.pictures - test, test=test)
        (folder / "made_data.py").write_text(code, encoding="utf-8")
        print(f"{given.pictures:,} pictures, {given.pictures * 3 * given.side**2 / 1e9:.1f} GB", flush=True)
        command(folder, "init", "mine", "--data", "made_data:load")
        shorten(folder / "mine" / "study.toml")
        command(folder, "check", "mine")
        command(folder, "run", "mine")
        os.chdir(folder)
        compare_steps(folder, pairs=given.pairs, side=given.side)
    finally:
        shutil.rmtree(folder)


def command(folder: Path, *words: str) -> None:
    """Run a command of nas-compress and print its peak of resident memory."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "nas_compress", *words], cwd=folder)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    megabytes = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    print(f"{words[0]}: {megabytes:,.0f} MB, {time.monotonic() - started:.0f} s", flush=True)
    if process.returncode:
        raise SystemExit(f"{words[0]} ended with {process.returncode}")


def shorten(study: Path) -> None:
    """One trial and one epoch with all pictures, by the smallest networks with the largest stride."""
    lines = study.read_text(encoding="utf-8").splitlines()
    plain = {"trials": "1", "epochs": "1", "widths": "[8, 16, 16]", "stem_stride": "4", "sampler": '"random"'}
    short = []
    for line in lines:
        key = line.partition("=")[0].strip()
        if key != "train_samples":
            short.append(f"{key} = {plain[key]}" if key in plain else line)
    study.write_text("\n".join(short) + "\n", encoding="utf-8")
    space = study.with_name("space.py")
    space.write_text(
        "from nas_compress.values.candidate import Candidate, distillation\n\n\ndef suggest(trial):\n"
        '    width = trial.suggest_categorical("width_multiplier", [0.25, 0.5])\n'
        "    losses = distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0)\n"
        '    return Candidate(family="resnet", depths=(1, 1, 1), stem_stride=4,\n'
        "                     width_multiplier=width, losses=losses)\n",
        encoding="utf-8",
    )


def compare_steps(folder: Path, *, pairs: int, side: int) -> None:
    """Print the ratio of a step with a batch of the store to one with a batch in memory."""
    torch.set_num_threads(1)
    data = load_dataset(factory="made_data:load", folder=folder)
    stored = data.train
    if not isinstance(stored.inputs["input"], MappedTensor):
        raise SystemExit("the data are too small for a store that stays on the disk")
    few = stored.first(RESIDENT)
    resident = Split(
        name="train",
        inputs=to_tensors({name: each.numpy() for name, each in few.inputs.items()}),
        targets=few.targets,
    )
    plain = architecture("resnet", (3, side, side), depths=(1, 1, 1), multiplier=0.25)
    model = build_student(replace(plain, settings=family_settings("resnet", {"stem_stride": 4}))).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step(samples: Split) -> Callable[[], None]:
        views = data.augmentation.over(samples.inputs)
        random = torch.Generator().manual_seed(0)

        def once() -> None:
            index = torch.randint(len(samples), (BATCH,), generator=random)
            update(views.batch(index, 0), chosen(samples.targets, index))

        return once

    def update(batch: Batch, targets: Batch) -> None:
        optimizer.zero_grad(set_to_none=False)
        logits: Tensor = model(*batch.values())
        F.cross_entropy(logits, targets["label"]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    steps = {"store": step(stored), "memory": step(resident)}
    taken: list[dict[str, float]] = []
    for number in range(pairs + 2):
        order = list(steps) if number % 2 else list(steps)[::-1]
        seconds = {}
        for name in order:
            started = time.perf_counter()
            steps[name]()
            seconds[name] = time.perf_counter() - started
        taken.append(seconds)
    ratios = [seconds["store"] / seconds["memory"] for seconds in taken[2:]]
    low, middle, high = statistics.quantiles(ratios, n=4)
    milliseconds = 1e3 * statistics.median(seconds["memory"] for seconds in taken[2:])
    print(f"a step of {milliseconds:.0f} ms in memory; from the store {middle:.3f} [{low:.2f}-{high:.2f}], n {pairs}")
    reading = [np.nan, np.nan]
    for place, samples in enumerate((stored, resident)):
        times = []
        for seed in range(20):
            index = torch.randint(len(samples), (BATCH,), generator=torch.Generator().manual_seed(seed))
            started = time.perf_counter()
            chosen(samples.inputs, index)
            times.append(time.perf_counter() - started)
        reading[place] = 1e3 * statistics.median(times)
    print(f"a batch of {BATCH}: {reading[0]:.1f} ms from the store, {reading[1]:.1f} ms from memory")


if __name__ == "__main__":
    main()
