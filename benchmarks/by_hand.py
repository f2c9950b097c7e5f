"""Our run against the script that a good user of Optuna writes, at equal wall clock, on the same candidates.

    python benchmarks/by_hand.py [--study studies/digits] [--seconds 600] [--workers 1] [--out by_hand]

The script by hand: a DataLoader, the teacher's forward pass in every step, each candidate trained to its end, Optuna's
NSGA-II, and at the end of a trial the ONNX file, its accuracy and the median of 200 timed runs. Both search the study's
space without its budgets, with its epochs, batch size and peak of the learning rate and the same losses; both have one
thread a worker and the trained teacher at the start. Afterwards the files of both are measured by the same patient
meter. Printed is the hypervolume (as in a run's front.json) at parts of the time; `--out` gets `.png` and `.csv`.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import signal
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from nas_compress.deployment import Stopwatch, write_file
from nas_compress.front import Front, Point
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.measurement.complexity import count_macs, count_parameters
from nas_compress.measurement.latency import LatencyMeter
from nas_compress.measurement.machine import describe_machine
from nas_compress.measurement.prediction import measure_accuracy
from nas_compress.measurement.structure import structure_key
from nas_compress.measurement.timed_net import TimedNet
from nas_compress.observation import Observation
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_baseline, read_records
from nas_compress.spec.study_file import StudyFile, read_study
from nas_compress.study.run import run_study
from nas_compress.study.workbench import find_teacher, gather, make_bench
from nas_compress.trial.bench import Bench, check_candidate, new_student, student_architecture

Found = list[tuple[float, Path, int, int]]
"""Seconds, file, parameters and multiply-adds of each trial that ended in a file."""


def train_by_hand(student: torch.nn.Module, candidate: Any, bench: Bench) -> None:
    """The usual loop: batches from a DataLoader, shifted at random, and the teacher asked in each step."""
    training, split, teacher = bench.training, bench.dataset.train, bench.teacher.network.eval()
    loader = DataLoader(
        TensorDataset(split.inputs, split.labels), batch_size=training.batch_size, shuffle=True, drop_last=True
    )
    loss = TrainingLoss(candidate.losses)
    optimizer = torch.optim.AdamW(student.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    steps = training.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=training.learning_rate, total_steps=steps)
    side, step = split.inputs.shape[-1], 0
    student.train()
    for _ in range(training.epochs):
        for images, labels in loader:
            top, left = torch.randint(3, (2,)).tolist()
            batch = F.pad(images, (1, 1, 1, 1))[..., top : top + side, left : left + side]
            with torch.no_grad():
                told = Observation(logits=teacher(batch))
            optimizer.zero_grad()
            terms = loss(Observation(logits=student(batch)), labels, told, step / steps)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
            schedule.step()
            step += 1
    student.eval()


def search_by_hand(file: StudyFile, folder: Path, seconds: float) -> Found:
    """Optuna's NSGA-II until the time is over."""
    torch.set_num_threads(1)
    parts = gather(file)
    teacher = find_teacher(parts, lambda name, done, count: None)
    bench = make_bench(parts, teacher, LatencyMeter())
    found: Found = []
    started = time.monotonic()

    def objective(trial: optuna.Trial) -> tuple[float, float, float]:
        candidate = parts.space.suggest(trial)
        check_candidate(candidate)
        architecture = student_architecture(candidate, bench.dataset, teacher, seed=trial.number)
        student = new_student(candidate, architecture, teacher, seed=trial.number)
        train_by_hand(student, candidate, bench)
        path, bits = folder / f"{trial.number}.onnx", (candidate.weight_bits, candidate.activation_bits)
        write_file(
            student,
            path,
            weight_bits=bits[0],
            activation_bits=bits[1],
            quantization=candidate.quantization,
            calibration=bench.calibration,
            watch=Stopwatch(),
        )
        images = bench.dataset.validation
        accuracy = measure_accuracy(path, images.inputs.numpy(), images.labels.numpy())
        net = TimedNet(path, block_ms=1e-6)
        latency = statistics.median(net.block_ms() for _ in range(200))
        macs = count_macs(student, bench.dataset.input_shape)
        found.append((time.monotonic() - started, path, count_parameters(student), macs))
        if time.monotonic() - started > seconds:
            trial.study.stop()
        return accuracy, latency, float(path.stat().st_size)

    study = optuna.create_study(
        directions=["maximize", "minimize", "minimize"], sampler=optuna.samplers.NSGAIISampler(seed=file.spec.seed)
    )
    study.optimize(objective, catch=(RuntimeError,))
    return found


def _run(file: StudyFile, root: Path, workers: int) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: (_ for _ in ()).throw(KeyboardInterrupt))
    torch.set_num_threads(1)
    try:
        run_study(file, out=root, trials=100_000, workers=workers)
    except KeyboardInterrupt:
        return


def search_by_run(file: StudyFile, root: Path, seconds: float, workers: int) -> Found:
    """`run`, stopped when the time is over. Its clock begins when its first trial can."""
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(file, root, workers))
    process.start()
    while not (root / "teacher" / "outcome.json").is_file():
        time.sleep(0.05)
    time.sleep(seconds)
    process.terminate()
    process.join()
    return [
        (record.finished_s, root / record.model, record.outcome.measured.parameters, record.outcome.measured.macs)
        for record in read_records(RunFolder(root=root))
        if record.model and record.repeats is None and record.outcome.measured is not None
    ]


def volumes(found: Found, file: StudyFile, baseline: Any) -> list[tuple[float, float]]:
    """(seconds, hypervolume) after each trial, by the patient meter and the validation split."""
    parts, meter = gather(file), LatencyMeter()
    images = parts.dataset.validation
    points = [
        Point(
            trial=number,
            accuracy=measure_accuracy(path, images.inputs.numpy(), images.labels.numpy()),
            latency_ms=meter.measure(path, key=structure_key(path), patient=True).latency_ms,
            size_bytes=path.stat().st_size,
            parameters=parameters,
            macs=macs,
        )
        for number, (_, path, parameters, macs) in enumerate(sorted(found))
    ]
    figures = {name: getattr(baseline, name) for name in ("latency_ms", "size_bytes", "parameters", "macs")}
    teacher = Point(trial="teacher", accuracy=baseline.accuracy, **figures)
    front = Front(
        objectives=file.spec.objective_list, points=tuple(points), classes=parts.dataset.classes, teacher=teacher
    )
    times = [seconds for seconds, *_ in sorted(found)]
    return list(zip(times, front.hypervolume_history(points).tolist(), strict=True))


def report(histories: dict[str, list[tuple[float, float]]], seconds: float, out: Path) -> None:
    """The table, the picture and the numbers behind it."""
    import matplotlib.pyplot as plt

    print(f"{'':10} {'trials':>6}  volume at 1/8  1/4    1/2    1/1")
    for name, history in histories.items():
        at = [max((v for t, v in history if t <= seconds * part), default=0.0) for part in (0.125, 0.25, 0.5, 1.0)]
        print(f"{name:10} {len(history):6}       " + "  ".join(f"{value:.3f}" for value in at))
        plt.step([t for t, _ in history], [v for _, v in history], where="post", label=name)
    plt.xlabel("seconds")
    plt.ylabel("hypervolume")
    plt.legend()
    plt.savefig(out.with_suffix(".png"), dpi=150)
    with out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["search", "seconds", "hypervolume"])
        writer.writerows((name, f"{t:.2f}", f"{v:.5f}") for name, history in histories.items() for t, v in history)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--study", default="studies/digits")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--workers", type=int, default=1, help="of our run")
    parser.add_argument("--out", type=Path, default=Path("by_hand"))
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file = read_study(given.study)
    file = replace(file, spec=file.spec.model_copy(update={"budgets": {}}))
    print(f"{describe_machine()}; {given.study}, {given.seconds:g} s each, {given.workers} workers of ours")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "hand").mkdir()
        run_study(file, out=folder / "warm", trials=1)  # the teacher and its answers
        baseline = read_baseline(RunFolder(root=folder / "warm"))
        hand = search_by_hand(file, folder / "hand", given.seconds)
        ours = search_by_run(file, folder / "ours", given.seconds, given.workers)
        found = {"by hand": hand, "run": ours}
        report({name: volumes(each, file, baseline) for name, each in found.items()}, given.seconds, given.out)


if __name__ == "__main__":
    main()
