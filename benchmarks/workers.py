"""Measure the effect of a second worker on trials per hour and on latencies.

    python benchmarks/workers.py [--workers 2] [--trials 24] [--rounds 3] [--study studies/digits]

Each round runs the study twice, with one process and with `--workers`, in new folders with an empty latency cache. Both
propose the same random candidates. The teacher and its answers exist before. Trials per hour count from the end of the
first trial to the end of the last but one, which excludes the start of the processes and the idle worker at the end.

The reference is the ratio of several processes that only train to one such process, in the same minutes: two virtual
cores are often two threads of one real core. The last lines have the ratio of the latencies of each structure, if both
found a fast moment: median, middle half, and the number within 2 %.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from nas_compress.config.study_file import StudyFile, read_study
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.files import cache_folder
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study

BARE_S = 8.0
"""Duration of bare training in seconds."""


def timed(file: StudyFile, root: Path, *, workers: int) -> float:
    """Run the study from the start and return the trials per hour."""
    shutil.rmtree(cache_folder() / "latency", ignore_errors=True)
    run_study(file, out=root, workers=workers)
    ends = sorted(record.finished_s for record in read_records(RunFolder(root=root)))
    return 3600 * (len(ends) - 2) / (ends[-2] - ends[0])


def train_bare(counts: Queue[int], begin: Barrier) -> None:
    """Count forward and backward passes on one batch in one thread."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    net = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.Flatten(), nn.Linear(1024, 10))
    batch, count = torch.rand(32, 1, 8, 8), 0
    net(batch).sum().backward()
    begin.wait()
    end = time.perf_counter() + BARE_S
    while time.perf_counter() < end:
        net(batch).sum().backward()
        count += 1
    counts.put(count)


def bare(processes: int) -> int:
    """Return the total passes of several processes."""
    context = multiprocessing.get_context("spawn")
    counts, begin = context.Queue(), context.Barrier(processes)
    started = [context.Process(target=train_bare, args=(counts, begin)) for _ in range(processes)]
    for process in started:
        process.start()
    total: int = sum(counts.get() for _ in started)
    for process in started:
        process.join()
    return total


def latencies(root: Path) -> dict[str, float]:
    """Return the latency of every candidate by fingerprint, without noisy ones."""
    found = {}
    for record in read_records(RunFolder(root=root)):
        measured = record.outcome.measured
        if measured is not None and not measured.latency_noisy:
            found[record.outcome.candidate.fingerprint] = measured.figures["latency_ms"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--study", default="studies/digits")
    given = parser.parse_args()
    file = read_study(given.study)
    search = file.spec.search.model_copy(update={"sampler": "random", "start": (), "stop": "none"})
    file = replace(file, spec=file.spec.model_copy(update={"search": search, "trials": given.trials, "budgets": {}}))
    print(f"{describe_machine()}; {given.trials} trials of {given.study}")
    gains, limits, ratios, most = [], [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        run_study(file, out=Path(folder) / "warm", trials=1)
        for number in range(given.rounds):
            alone, beside = Path(folder) / f"alone-{number}", Path(folder) / f"beside-{number}"
            one, several = timed(file, alone, workers=1), timed(file, beside, workers=given.workers)
            gains.append(several / one)
            limits.append(bare(given.workers) / bare(1))
            first, second = latencies(alone), latencies(beside)
            ratios += [second[key] / first[key] for key in first.keys() & second.keys()]
            most += len({record.outcome.candidate for record in read_records(RunFolder(root=alone))})
            told = f"trials per hour: {one:.0f} alone, {several:.0f} with {given.workers}: {several / one:.2f}"
            print(f"{told}; bare training: {limits[-1]:.2f}", flush=True)
    print(f"gain: median {statistics.median(gains):.2f}; of bare training {statistics.median(limits):.2f}")
    low, middle, high = statistics.quantiles(ratios, n=4)
    near = sum(abs(ratio - 1) <= 0.02 for ratio in ratios)
    print(f"latency beside / alone: median {middle:.4f} [{low:.4f}, {high:.4f}], {near} of {len(ratios)} within 2 %")
    print(f"{most - len(ratios)} of {most} pairs had a noisy one")


if __name__ == "__main__":
    main()
