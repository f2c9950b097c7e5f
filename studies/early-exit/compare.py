"""Exits of one trained network against networks without exits, on Fashion-MNIST.

    python studies/early-exit/compare.py --seed 0 --out /tmp/early-exit      # and seeds 1 and 2
    python studies/early-exit/compare.py --table --out /tmp/early-exit       # compare.csv and compare.png in the study

A seed trains a residual network of two blocks in each stage and smaller ones. Exits behind the first two stages are
fitted to the frozen large network, once with cross-entropy and once with hinge loss, and to one trained jointly with
its exits. The validation split chooses the thresholds for each stated loss, and accuracy is that on the test split.
Latencies are those of the files over 256 validation samples, one by one; networks without exits are timed on the same
samples. Weights are kept below --out.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from nas_compress.config.schema import DataSection, StudySpec, TrainingSection
from nas_compress.config.study_file import StudyFile
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Split
from nas_compress.devices.onnx_session import read_content, read_model
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.export.nested_exits import with_thresholds
from nas_compress.export.onnx_file import export_onnx
from nas_compress.measurement.exit_use import LOSSES, exit_rates
from nas_compress.measurement.file_latency import in_figures, measure_latency, stream_of
from nas_compress.measurement.onnx_macs import count_exit_macs
from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.measurement.predictions import measure_metrics
from nas_compress.models.exits.fitting import fit_exits_
from nas_compress.models.exits.network import EarlyExits, exit_signature
from nas_compress.models.exits.passes import exit_answers
from nas_compress.models.exits.thresholds import choose_thresholds
from nas_compress.models.macs import count_macs
from nas_compress.search.setup import comparison_context
from nas_compress.search.study_data import study_dataset
from nas_compress.tasks.batch import to_arrays, to_rows
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.shape import new_student
from nas_compress.trial.train_student import teach
from nas_compress.values.candidate import Candidate, Exits

SAMPLES, EPOCHS = 6_000, 4
NETWORKS = {"2 blocks": ((2, 2, 2), 1.0), "1 block": ((1, 1, 1), 1.0), "1 block, half as wide": ((1, 1, 1), 0.5)}
LARGE = "2 blocks"
PLACES = ("stage0", "stage1")
FITS = {
    "frozen": ("max_probability", "entropy", "margin"),
    "frozen, hinge": ("hinge",),
    "joint": ("max_probability",),
}
HERE = Path(__file__).parent


@dataclass(kw_only=True, eq=False)
class Seed:
    """One seed: its context, and the rows so far. out: folder of weights and files."""

    number: int
    out: Path
    context: TrialContext
    test: Split
    rows: list[dict[str, object]] = field(default_factory=list)

    def keep(self, **row: object) -> None:
        """Add a row and write all of them."""
        self.rows.append({"seed": self.number, **row})
        print(self.rows[-1], flush=True)
        names = list(dict.fromkeys(name for each in self.rows for name in each))
        with (self.out / f"seed-{self.number}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def network(self, name: str, *, joint: bool = False) -> nn.Module:
        """Return a trained network, from its weights if they are there. joint: it learns together with its exits."""
        depths, width = NETWORKS[name]
        exits = Exits(after=PLACES, training="joint") if joint else None
        candidate = Candidate(
            family="resnet", depths=depths, width_multiplier=width, stem_stride=2, round_to=8, exits=exits
        )
        checked = candidate_rules(self.context, seed=self.number).require(candidate)
        student = new_student(candidate, checked.architecture, self.context.teacher, seed=self.number)
        words = name.replace(", ", "-").replace(" ", "-") + "-joint" * joint
        file = self.out / f"{words}-{self.number}.pt"
        if not file.is_file():
            teach(candidate, [student], self.context, layer_bits={}, epochs=EPOCHS, seed=self.number, watch=Stopwatch())
            torch.save(student.cpu().state_dict(), file)
        student.load_state_dict(torch.load(file))
        return student.cpu().eval()

    def timed(self, file: Path) -> dict[str, object]:
        """Return the latencies of a file over the samples."""
        samples = stream_of(self.context.dataset.validation.inputs)
        device = self.context.target
        found = device.stream(file, samples, patient=True) if isinstance(device, OnnxruntimeCpu) else None
        if found is None:
            raise TypeError("the device must time samples")
        mean, middle, tail = in_figures(found.each_ms)
        return {"mean_us": 1e3 * mean, "p50_us": 1e3 * middle, "p95_us": 1e3 * tail, "noisy": found.noisy}


def main() -> None:
    """Run one seed, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, action="append", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for seed in given.seed:
        run(seed, given.out)
    if given.table:
        table(given.out)


def run(seed: int, out: Path) -> None:
    """Train and measure one seed."""
    torch.set_num_threads(1)
    data = DataSection(name="fashion-mnist", train_samples=SAMPLES)
    teacher = TeacherSection(family="resnet", widths=(16, 32, 64), depths=(1, 1, 1), epochs=1, learning_rate=0.01)
    spec = StudySpec(name="early-exit", space="early_exit", data=data, teacher=teacher)
    dataset = study_dataset(StudyFile(spec=spec, folder=out, label="early-exit"))
    training = TrainingSection(epochs=EPOCHS, batch_size=64, learning_rate=0.01)
    context = comparison_context(dataset, spec.teacher, training, folder=out, target=OnnxruntimeCpu())
    one = Seed(number=seed, out=out, context=context, test=dataset.test.reveal(purpose="studies/early-exit"))
    task, file = dataset.task, out / f"network-{seed}.onnx"
    for name in NETWORKS:
        network = one.network(name)
        export_onnx(network, task.signature, file)
        found = [
            measure_metrics(file, task, inputs=to_rows(split.inputs), targets=to_arrays(split.targets))["accuracy"]
            for split in (dataset.validation, one.test)
        ]
        macs = count_macs(network, dataset.validation.first(1).inputs)
        one.keep(network=name, validation=found[0], test=found[1], **one.timed(file), macs=macs)
    for fit, confidences in FITS.items():
        large = one.network(LARGE, joint=fit == "joint")
        exits = Exits(after=PLACES, confidence=confidences[0])
        network = EarlyExits(large, exits, sample=dataset.validation.inputs["input"][:2]).eval()
        fit_exits_(network, large, dataset.train.inputs["input"], task.labels(dataset.train.targets))
        measure_exits(one, network, fit, confidences)


def measure_exits(one: Seed, network: EarlyExits, fit: str, confidences: Sequence[str]) -> None:
    """Add a row for each confidence and each stated loss."""
    dataset, file = one.context.dataset, one.out / f"exits-{one.number}.onnx"
    task = dataset.task
    splits = {
        name: (exit_answers(network, split.inputs["input"]), task.labels(split.targets).numpy())
        for name, split in (("validation", dataset.validation), ("test", one.test))
    }
    for confidence in confidences:
        network.exits = Exits(after=PLACES, confidence=confidence)
        export_onnx(network, exit_signature(task.signature), file)
        macs = count_exit_macs(read_content(file), to_arrays(dataset.validation.first(1).inputs))
        latency = measure_latency(file, one.context.target, sizes={}, patient=True)
        sure, right = {}, {}
        for name, (answers, labels) in splits.items():
            sure[name] = [each.numpy() for each in network.confidences(answers[:-1])]
            right[name] = [each.numpy().argmax(axis=1) == labels for each in answers]
        for loss in LOSSES:
            chosen = choose_thresholds(sure["validation"], right["validation"], macs, accuracy_loss=loss)
            stops = [each >= limit for each, limit in zip(sure["test"], chosen.thresholds, strict=True)]
            taken = np.argmax([*stops, np.ones(len(one.test), dtype=bool)], axis=0)
            hits = np.array(right["test"])[taken, np.arange(len(one.test))]
            point = one.out / f"point-{one.number}.onnx"
            point.write_bytes(with_thresholds(read_model(file), chosen.thresholds).SerializeToString())
            one.keep(
                network=LARGE,
                exits=fit,
                confidence=confidence,
                may_lose=loss,
                validation=chosen.accuracy,
                test=float(hits.mean()),
                **one.timed(point),
                macs=float(np.dot(macs, chosen.rates)),
                forecast_us=1e3 * float(np.dot(latency.exits_ms, chosen.rates)),
                exits_us=" ".join(f"{1e3 * each:.1f}" for each in latency.exits_ms),
                rates=" ".join(f"{rate:.3f}" for rate in exit_rates(taken, len(macs))),
                exit_accuracies=" ".join(f"{each.mean():.4f}" for each in right["validation"]),
            )


def table(out: Path) -> None:
    """Write compare.csv with all seeds, and compare.png with the curves of the exits and the other networks."""
    rows = [row for path in sorted(out.glob("seed-*.csv")) for row in csv.DictReader(path.open())]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (HERE / "compare.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    seeds = sorted({row["seed"] for row in rows})
    figure, axes = plt.subplots(1, len(seeds), figsize=(5 * len(seeds), 4), sharey=True, squeeze=False)
    for panel, seed in zip(axes[0], seeds, strict=True):
        own = [row for row in rows if row["seed"] == seed]
        static = [row for row in own if not row.get("exits")]
        draw(panel, static, "s", "black", "without exits")
        for fit, colour in zip(FITS, ("#0072B2", "#D55E00", "#009E73"), strict=True):
            shown = [row for row in own if row.get("exits") == fit and row["confidence"] == FITS[fit][0]]
            draw(panel, shown, "o", colour, f"exits, {fit}")
        panel.set_title(f"seed {seed}")
        panel.set_xlabel("mean latency (us), bar to p95")
    axes[0][0].set_ylabel("test accuracy (%)")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE / "compare.png", dpi=110, metadata={"Software": None})


def draw(panel: plt.Axes, rows: Sequence[dict[str, str]], mark: str, colour: str, label: str) -> None:
    """Draw the curve of some rows, with a bar from each mean to the 95th percentile."""
    ordered = sorted(rows, key=lambda row: float(row["mean_us"]))
    mean, tail = ([float(row[name]) for row in ordered] for name in ("mean_us", "p95_us"))
    test = [100 * float(row["test"]) for row in ordered]
    panel.plot(mean, test, f"{mark}-", color=colour, label=label)
    panel.hlines(test, mean, tail, color=colour, linewidth=0.7, alpha=0.6)


if __name__ == "__main__":
    main()
