"""Compare all weight widths of one student, rounded after or in training, with and without a teacher.

    python studies/bits/compare.py --student resnet --out /tmp/bits
    python studies/bits/compare.py --student vit --out /tmp/bits
    python studies/bits/compare.py --student resnet --apprentice fixed --out /tmp/bits
    python studies/bits/compare.py --time --out /tmp/bits      # latencies of the kept files, on a quiet machine
    python studies/bits/compare.py --table --out /tmp/bits     # table.csv and accuracy.png, below --out

Files and their validation accuracy are kept below --out, so the same command continues after a stop. Below 16 bits
activations have 8 bits. `calibrate` rounds the float network of the same seed and teaching. `lsq` learns its steps in
the last quarter of the epochs; students of one seed and teaching share the identical float epochs before. An apprentice
(Mishra, Marr 2018, arXiv 1711.05852) rounds in all of its epochs.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import statistics
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
from torch import nn

from nas_compress.config.schema import TeacherSection, TrainingSection
from nas_compress.data.load_dataset import load_dataset
from nas_compress.devices.onnx_session import open_session
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.files import write_json
from nas_compress.measurement.export_agreement import check_agreement
from nas_compress.measurement.pipeline import Stopwatch, write_file
from nas_compress.measurement.predictions import measure_metrics
from nas_compress.quantization.training_aware import make_aware_
from nas_compress.search.setup import comparison_context
from nas_compress.tasks.batch import rows, to_arrays
from nas_compress.training.schedule import epochs_under_rounding
from nas_compress.trial.bit_allocation import planned_bits
from nas_compress.trial.context import TrialContext
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.trial.train_student import teach
from nas_compress.trial.training import ROUNDING_RATE
from nas_compress.values.candidate import Candidate, LossTerm, Quantization, Teaching, cross_entropy, distillation

SAMPLES, EPOCHS, SEEDS = 5000, 8, 3
WIDTHS = (8, 6, 5, 4, 3, 2, 1)
TEACHER = TeacherSection(family="resnet", widths=(16, 32, 64), depths=(1, 1, 1), epochs=10, learning_rate=0.01)

STUDENTS = {
    "resnet": Candidate(family="resnet", depths=(1, 1, 1), stem_stride=2, round_to=16),
    "vit": Candidate(family="vit", depths=(2,), patch_size=7, round_to=16),
}
TRAININGS = {
    "resnet": TrainingSection(epochs=EPOCHS, batch_size=64, learning_rate=0.01),
    "vit": TrainingSection(epochs=EPOCHS, batch_size=64, learning_rate=0.003),
}


def softly(temperature: float) -> tuple[LossTerm, ...]:
    """Return losses on labels and teacher in equal parts, as in Apprentice (Mishra, Marr 2018, arXiv 1711.05852)."""
    return distillation(hard_weight=0.5, soft_weight=0.5, temperature=temperature)


TEACHINGS = {"no teacher": cross_entropy(), "kd T=1": softly(1.0), "kd T=4": softly(4.0)}
APPRENTICES = {"joint": "apprentice A", "fixed": "apprentice B", "fine_tuned": "apprentice C"}
APPRENTICE_WIDTHS = (8, 4, 2, 1)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the comparison, which has one file."""

    student: str
    teaching: str
    method: str
    bits: int
    seed: int
    scheme: str | None = None

    @property
    def candidate(self) -> Candidate:
        """The candidate of this cell."""
        return replace(
            STUDENTS[self.student],
            losses=TEACHINGS.get(self.teaching, softly(1.0)),
            teaching=Teaching() if self.scheme is None else Teaching(teacher="apprentice", scheme=self.scheme),
            weight_bits=self.bits,
            activation_bits=32 if self.bits > 8 else 8,
            quantization=Quantization(method=self.method, ranges="mse"),
        )

    def path(self, out: Path) -> Path:
        """Path of the file; its figures are in the same folder."""
        return out / self.student / f"{self.seed}" / self.teaching / f"{self.method}-{self.bits}.onnx"


def cells(student: str, teaching: str, seed: int) -> Iterator[Cell]:
    """Return the cells of every width and method."""
    for method, widths in (("calibrate", (32, 16, *WIDTHS)), ("lsq", WIDTHS)):
        for bits in widths:
            yield Cell(student=student, teaching=teaching, method=method, bits=bits, seed=seed)


def apprentices(student: str, scheme: str, seed: int) -> Iterator[Cell]:
    """Return the cells of one apprentice scheme."""
    for bits in APPRENTICE_WIDTHS:
        yield Cell(student=student, teaching=APPRENTICES[scheme], method="lsq", bits=bits, seed=seed, scheme=scheme)


def make_context(student: str, out: Path) -> TrialContext:
    """Return the data, teacher and device."""
    dataset = load_dataset(name="fashion-mnist", train_samples=SAMPLES, shift=0, flip=True)
    return comparison_context(dataset, TEACHER, TRAININGS[student], folder=out, target=OnnxruntimeCpu())


def train_float(cell: Cell, context: TrialContext, *, epochs: int) -> nn.Module:
    """Train the float student of the seed and teaching of a cell."""
    candidate = replace(cell.candidate, weight_bits=32, activation_bits=32, quantization=Quantization())
    shape = student_architecture(candidate, context, seed=cell.seed)
    student = new_student(candidate, shape, context.teacher, seed=cell.seed)
    teach(candidate, [student], context, layer_bits={}, epochs=epochs, seed=cell.seed, watch=Stopwatch())
    return student


def round_in_training(started: nn.Module, cell: Cell, context: TrialContext) -> nn.Module:
    """Continue the training of a copy of the float student with rounding, as in a trial."""
    student = deepcopy(started)
    make_aware_(
        student,
        method="lsq",
        bits=planned_bits(cell.candidate, student, context),
        activation_bits=8,
        calibration=context.calibration,
    )
    lower = context.training.model_copy(update={"learning_rate": context.training.learning_rate * ROUNDING_RATE})
    going_on = replace(cell.candidate, quantization=Quantization())  # rounds already
    teach(
        going_on,
        [student],
        replace(context, training=lower),
        layer_bits={},
        epochs=epochs_under_rounding(EPOCHS),
        seed=cell.seed + 1,
        watch=Stopwatch(),
    )
    return student


def ship(student: nn.Module, cell: Cell, context: TrialContext, out: Path) -> None:
    """Write the file and its figures."""
    path = cell.path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    candidate = cell.candidate
    deployable = write_file(
        student,
        path,
        signature=context.dataset.task.signature,
        precision=candidate.precision,
        calibration=context.calibration,
        watch=Stopwatch(),
        layer_bits=planned_bits(candidate, student, context),
    )
    task, validation = context.dataset.task, context.dataset.validation
    session = open_session(path, signature=task.signature)
    check_agreement(deployable, path, rows(validation.inputs, 0, 512), task, session=session)
    inputs, targets = to_arrays(validation.inputs), to_arrays(validation.targets)
    accuracy = measure_metrics(session, task, inputs=inputs, targets=targets)["accuracy"]
    write_json(path.with_suffix(".json"), {"accuracy": accuracy, "size_bytes": path.stat().st_size})
    print(f"seed {cell.seed}: {cell.teaching}: {cell.method} {cell.bits}: {accuracy:.2%}", file=sys.stderr, flush=True)


def run(student: str, seeds: int, out: Path) -> None:
    """Train the missing cells, seed by seed."""
    context = make_context(student, out)
    for seed in range(seeds):
        for teaching in TEACHINGS:
            every = list(cells(student, teaching, seed))
            open_ = [cell for cell in every if not cell.path(out).with_suffix(".json").is_file()]
            after = [cell for cell in open_ if cell.method == "calibrate"]
            within = [cell for cell in open_ if cell.method == "lsq"]
            if after:
                network = train_float(after[0], context, epochs=EPOCHS)
                for cell in after:
                    ship(network, cell, context, out)
            if within:
                started = train_float(within[0], context, epochs=EPOCHS - epochs_under_rounding(EPOCHS))
                for cell in within:
                    ship(round_in_training(started, cell, context), cell, context, out)


def run_apprentices(student: str, scheme: str, seeds: int, out: Path) -> None:
    """Train the missing apprentices of one scheme, seed by seed."""
    context = make_context(student, out)
    for seed in range(seeds):
        for cell in apprentices(student, scheme, seed):
            if cell.path(out).with_suffix(".json").is_file():
                continue
            shape = student_architecture(cell.candidate, context, seed=seed)
            network = new_student(cell.candidate, shape, context.teacher, seed=seed)
            bits = planned_bits(cell.candidate, network, context)
            teach(cell.candidate, [network], context, layer_bits=bits, epochs=EPOCHS, seed=seed, watch=Stopwatch())
            ship(network, cell, context, out)


def time_files(out: Path) -> None:
    """Time one file of each student and width, because files of one width differ in weight values only."""
    meter, found = LatencyMeter(time_limit_s=8.0), {}
    for student in STUDENTS:
        for bits in (32, 16, *WIDTHS):
            path = Cell(student=student, teaching="no teacher", method="calibrate", bits=bits, seed=0).path(out)
            if path.is_file():
                latency = meter.measure(path, patient=True)
                found[f"{student} {bits}"] = {"latency_ms": latency.latency_ms, "noisy": latency.noisy}
                print(student, bits, latency, file=sys.stderr, flush=True)
    write_json(out / "latencies.json", found)


HEADER = (
    "student",
    "teaching",
    "method",
    "bits",
    "seeds",
    "accuracy",
    "std",
    "to float",
    "bytes",
    "latency_ms",
    "noisy",
)


def figures(cell: Cell, out: Path, seeds: int) -> list[dict[str, float]]:
    """Return the results of a cell for the finished seeds."""
    files = [replace(cell, seed=seed).path(out).with_suffix(".json") for seed in range(seeds)]
    return [json.loads(path.read_text()) for path in files if path.is_file()]


def table(out: Path, seeds: int) -> list[dict[str, str]]:
    """Return a row for each student, teaching, method and width.

    `to float` is the mean of paired differences by seed to the float student of that teaching, of an apprentice to the
    one that KD taught at temperature 1.
    """
    path = out / "latencies.json"
    latencies = json.loads(path.read_text()) if path.is_file() else {}
    rows = []
    for student, teaching in itertools.product(STUDENTS, (*TEACHINGS, *APPRENTICES)):
        floats = next(cells(student, teaching if teaching in TEACHINGS else "kd T=1", 0))
        base = [each["accuracy"] for each in figures(floats, out, seeds)]
        every = cells(student, teaching, 0) if teaching in TEACHINGS else apprentices(student, teaching, 0)
        for cell in every:
            found = figures(cell, out, seeds)
            if not found:
                continue
            own = [each["accuracy"] for each in found]
            latency = latencies.get(f"{student} {cell.bits}")
            values = (
                student,
                cell.teaching,
                cell.method,
                cell.bits,
                len(own),
                f"{statistics.mean(own):.4f}",
                f"{statistics.stdev(own):.4f}" if len(own) > 1 else "",
                f"{statistics.mean(mine - other for mine, other in zip(own, base, strict=False)):+.4f}",
                int(found[0]["size_bytes"]),
                f"{latency['latency_ms']:.4f}" if latency else "",
                latency["noisy"] if latency else "",
            )
            rows.append(dict(zip(HEADER, map(str, values), strict=True)))
    return rows


LINES = {
    **{("calibrate", name): ("tab:orange", mark) for name, mark in zip(TEACHINGS, "os^", strict=True)},
    **{("lsq", name): ("tab:blue", mark) for name, mark in zip(TEACHINGS, "os^", strict=True)},
    **{("lsq", name): ("tab:green", mark) for name, mark in zip(APPRENTICES.values(), "Dvx", strict=True)},
}
"""Colour and mark of each method and teaching."""


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """Draw accuracy over weight bits, one panel per student."""
    shown = [student for student in STUDENTS if any(row["student"] == student for row in rows)]
    figure, axes = plt.subplots(1, len(shown), figsize=(6 * len(shown), 4.5), layout="constrained", squeeze=False)
    places = {bits: place for place, bits in enumerate((1, 2, 3, 4, 5, 6, 8, 16, 32))}
    for axis, student in zip(axes[0], shown, strict=True):
        for (method, teaching), (colour, mark) in LINES.items():
            own = [
                row for row in rows if (row["student"], row["teaching"], row["method"]) == (student, teaching, method)
            ]
            if own:
                across = [places[int(row["bits"])] for row in own]
                up = [100 * float(row["accuracy"]) for row in own]
                axis.plot(across, up, marker=mark, color=colour, alpha=0.7, label=f"{method}, {teaching}")
        axis.set_xticks(list(places.values()), [str(bits) for bits in places])
        axis.set(title=student, xlabel="bits of a weight", ylabel="validation accuracy, %")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def publish(out: Path, seeds: int) -> None:
    """Write table.csv and accuracy.png."""
    rows = table(out, seeds)
    with (out / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, out / "accuracy.png")


def main() -> None:
    """Train, time or print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--student", choices=STUDENTS, help="train what is not there yet")
    parser.add_argument("--apprentice", choices=APPRENTICES, help="train the student's apprentices of this scheme")
    parser.add_argument("--time", action="store_true", help="time the kept files")
    parser.add_argument("--table", action="store_true", help="write table.csv and accuracy.png")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.student and given.apprentice:
        run_apprentices(given.student, given.apprentice, given.seeds, given.out)
    elif given.student:
        run(given.student, given.seeds, given.out)
    if given.time:
        time_files(given.out)
    if given.table:
        publish(given.out, given.seeds)


if __name__ == "__main__":
    main()
