"""What a second worker brings: trials per hour, and whether latencies measured beside it stay the same.

    python benchmarks/workers.py [--workers 2] [--trials 24] [--rounds 3] [--study studies/digits]

Each round runs the study twice, with one process and with `--workers`, in new folders and with latencies that nobody
kept; both propose the same candidates, at random. The teacher and its answers are ready before. Printed are the trials
per hour of both, their ratio, and the ratio of the latencies of each structure: the median, the middle half and how
many lie within 2 %, of those that found a fast moment in both.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from nas_compress.files import cache_folder
from nas_compress.front import Front
from nas_compress.measurement.machine import describe_machine
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.spec.study_file import StudyFile, read_study
from nas_compress.study.run import run_study


def timed(file: StudyFile, root: Path, *, workers: int) -> float:
    """Run the study afresh; trials per hour."""
    shutil.rmtree(cache_folder() / "latency", ignore_errors=True)
    started = time.perf_counter()
    front: Front = run_study(file, out=root, workers=workers)
    return 3600 * len(front.points) / (time.perf_counter() - started)


def latencies(root: Path) -> dict[str, float]:
    """Latency of every candidate by its fingerprint; noisy ones left out."""
    found = {}
    for record in read_records(RunFolder(root=root)):
        measured = record.outcome.measured
        if measured is not None and not measured.latency_noisy:
            found[record.outcome.candidate.fingerprint] = measured.latency_ms
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
    gains, ratios, most = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        run_study(file, out=Path(folder) / "warm", trials=1)
        for number in range(given.rounds):
            alone, beside = Path(folder) / f"alone-{number}", Path(folder) / f"beside-{number}"
            one, several = timed(file, alone, workers=1), timed(file, beside, workers=given.workers)
            gains.append(several / one)
            first, second = latencies(alone), latencies(beside)
            ratios += [second[key] / first[key] for key in first.keys() & second.keys()]
            most += len({record.outcome.candidate for record in read_records(RunFolder(root=alone))})
            print(
                f"trials per hour: {one:.0f} alone, {several:.0f} with {given.workers}: {several / one:.2f}", flush=True
            )
    print(f"gain: median {statistics.median(gains):.2f}")
    low, middle, high = statistics.quantiles(ratios, n=4)
    near = sum(abs(ratio - 1) <= 0.02 for ratio in ratios)
    print(f"latency beside / alone: median {middle:.4f} [{low:.4f}, {high:.4f}], {near} of {len(ratios)} within 2 %")
    print(f"{most - len(ratios)} of {most} pairs had a noisy one")


if __name__ == "__main__":
    main()
