"""Compare uniformly narrower networks with pruned shapes of equal latency, all trained from scratch.

    python studies/reduced-nets/compare.py --out /tmp/reduced-nets

The question of Crowley et al. 2018 (arXiv 1810.04622). For each uniform width and criterion, the script searches the
pruning ratio with the nearest latency of the untrained file. Each result is a file below --out, so the same command
continues after a stop; then the table is printed as CSV. Data: handwritten digits. Accuracy is that of the exported
file on the validation split.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas_compress.config.schema import TeacherSection, TrainingSection
from nas_compress.data.load_dataset import load_dataset
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.export.onnx_file import export_onnx
from nas_compress.files import write_json
from nas_compress.search.setup import comparison_context
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.values.candidate import Candidate

WIDTHS = (0.375, 0.5, 0.75)
CRITERIA = ("l1", "bn_scale", "taylor")
RATIOS = tuple(number / 20 for number in range(3, 18, 2))
TEACHER = TeacherSection(family="resnet", widths=(32, 64, 128), depths=(1, 1, 1), epochs=10, learning_rate=0.01)
TRAINING = TrainingSection(epochs=8, batch_size=64, learning_rate=0.01)


def make_context(out: Path) -> TrialContext:
    """Return the data, teacher and device."""
    dataset = load_dataset(name="digits", train_samples=None, shift=None)
    meter = LatencyMeter(cache=out / "latency", time_limit_s=2.0)
    return comparison_context(dataset, TEACHER, TRAINING, folder=out, target=OnnxruntimeCpu(meter))


def untrained_latency(candidate: Candidate, context: TrialContext) -> float:
    """Return the smaller of two latencies of the untrained file, ms."""
    shape = student_architecture(candidate, context, seed=0)
    student = new_student(candidate, shape, context.teacher, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(student.eval(), context.dataset.task.signature, path)
        return min(context.target.latency(path, patient=True).latency_ms for _ in range(2))


def pairs(context: TrialContext, out: Path) -> list[dict[str, Any]]:
    """Return each uniform width with the nearest pruning ratio per criterion; measured once and stored."""
    path = out / "pairs.json"
    if not path.is_file():
        plain = Candidate(family="resnet", depths=context.teacher.depths, round_to=4)
        by_criterion = {
            name: {
                ratio: untrained_latency(replace(plain, pruning_ratio=ratio, pruning_criterion=name), context)
                for ratio in RATIOS
            }
            for name in CRITERIA
        }
        found = []
        for width in WIDTHS:
            wanted = untrained_latency(replace(plain, width_multiplier=width), context)
            found.append({"latency of": width, "criterion": "uniform", "ratio": 0.0, "width": width})
            for name, known in by_criterion.items():
                ratio = min(known, key=lambda ratio: abs(known[ratio] - wanted))
                found.append({"latency of": width, "criterion": name, "ratio": ratio, "width": 1.0})
        write_json(path, {"pairs": found})
    kept: list[dict[str, Any]] = json.loads(path.read_text())["pairs"]
    return kept


def result(pair: dict[str, Any], seed: int, context: TrialContext, out: Path) -> dict[str, float]:
    """Return the figures of one training, from its file or trained now."""
    path = out / f"{seed}" / f"{pair['latency of']} {pair['criterion']}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        candidate = Candidate(
            family="resnet",
            depths=context.teacher.depths,
            round_to=4,
            width_multiplier=pair["width"],
            pruning_ratio=pair["ratio"],
            pruning_criterion=pair["criterion"],
        )
        outcome = run_trial(candidate, context, seed=seed, model=path.with_suffix(".onnx"))
        if outcome.measured is None or "accuracy" not in outcome.measured.figures:
            raise SystemExit(f"{pair}: {outcome.state} {outcome.reason}")
        names = ("accuracy", "latency_ms", "size_bytes", "parameters", "macs")
        write_json(path, {name: outcome.measured.figures[name] for name in names})
        print(f"seed {seed}: {pair}: {outcome.measured.figures['accuracy']:.2%}", file=sys.stderr, flush=True)
    figures: dict[str, float] = json.loads(path.read_text())
    return figures


def main() -> None:
    """Train the missing shapes, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    context = make_context(given.out)
    chosen = pairs(context, given.out)
    found = [[result(pair, seed, context, given.out) for pair in chosen] for seed in range(given.seeds)]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    columns = ["latency of width", "shape", "ratio", "seeds", "mean", "std"]
    writer.writerow([*columns, "latency_ms", "size_bytes", "parameters", "macs"])
    for pair, rows in zip(chosen, zip(*found, strict=True), strict=True):
        accuracies = [row["accuracy"] for row in rows]
        spread = [statistics.mean(accuracies), statistics.stdev(accuracies) if len(rows) > 1 else 0.0]
        latency = statistics.median(row["latency_ms"] for row in rows)
        counts = [f"{rows[0][name]:.0f}" for name in ("size_bytes", "parameters", "macs")]
        shown = [*(f"{value:.4f}" for value in spread), f"{latency:.4f}", *counts]
        writer.writerow([pair["latency of"], pair["criterion"], pair["ratio"], len(rows), *shown])


if __name__ == "__main__":
    main()
