"""Compare searches in equal time: a run, a hand-written Optuna script, and other tools.

    python benchmarks/by_hand.py search run --seed 0 --seconds 240 --out live/run-0
    python benchmarks/by_hand.py search by_hand --seed 0 --seconds 240 --out live/by_hand-0
    python benchmarks/by_hand.py compare live/*-* --seconds 240 --out benchmarks/live

`by_hand` is the script of a good user of Optuna: a DataLoader, the teacher's forward pass in every step, each candidate
trained to its end, NSGA-II, and after each trial the ONNX file, its accuracy and the median of 200 timed runs. `peers/`
has Syne Tune's MOASHA and NePS's PriMO, each in its own environment.

All contenders search the study's space without its budgets, with its epochs, batch size, learning rate and losses, on
one thread per worker. They start with the trained teacher and its answers, and do not share latencies. A search ends
after a number of processor seconds, because on a shared machine other programs would decide the wall time. Both clocks
are recorded; `--clock` selects the one for `compare`.

`compare` measures all files with one patient meter, one after another (a second call continues). It prints the
hypervolume, as in a run's front.json, at fractions of the time, and writes `.png` and `.csv` files to `--out`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from nas_compress.config.study_file import StudyFile
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.devices.onnxruntime_cpu.timed_session import TimedNet
from nas_compress.errors import NasCompressError
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.measurement.pipeline import Stopwatch, write_file
from nas_compress.measurement.predictions import measure_metrics
from nas_compress.models.features import Observation
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from nas_compress.tasks.batch import to_arrays
from nas_compress.trial.context import TrialContext
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.trial.validity import check_candidate
from peers.comparison import count_noisy, curve_of, draw, measure_teacher, print_table, write_curves
from peers.finds import CLOCKS, Clock, Finds, add_find
from peers.workplace import Workplace, contest_file, contest_parser, open_workplace, own_cache, warmed

LOOK_S = 0.3
"""Seconds between two readings of the processor time of a run."""


def train_by_hand(student: torch.nn.Module, candidate: Any, context: TrialContext) -> None:
    """Train in the usual loop: randomly shifted batches of a DataLoader, a pass of the teacher in each step."""
    training, split, teacher = context.training, context.dataset.train, context.teacher.network.eval()
    loader = DataLoader(
        TensorDataset(split.inputs["input"], split.targets["label"]),
        batch_size=training.batch_size,
        shuffle=True,
        drop_last=True,
    )
    loss = TrainingLoss(context.dataset.task, candidate.losses)
    optimizer = torch.optim.AdamW(student.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    steps = training.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=training.learning_rate, total_steps=steps)
    side, step = split.inputs["input"].shape[-1], 0
    student.train()
    for _ in range(training.epochs):
        for images, labels in loader:
            top, left = torch.randint(3, (2,)).tolist()
            batch = F.pad(images, (1, 1, 1, 1))[..., top : top + side, left : left + side]
            with torch.no_grad():
                answers = teacher(batch)
            optimizer.zero_grad()
            terms = loss(
                Observation(outputs={"logits": student(batch)}),
                {"label": labels},
                answers=answers,
                progress=step / steps,
            )
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
            schedule.step()
            step += 1
    student.eval()


def search_by_hand(place: Workplace, finds: Finds, seconds: float) -> None:
    """Search with Optuna's NSGA-II until the time is over."""
    parts, context = place.parts, place.context

    def objective(trial: optuna.Trial) -> tuple[float, float, float]:
        candidate = parts.space.suggest(trial)
        check_candidate(candidate)
        architecture = student_architecture(candidate, context, seed=trial.number)
        student = new_student(candidate, architecture, context.teacher, seed=trial.number)
        train_by_hand(student, candidate, context)
        path = finds.folder / f"{trial.number}.onnx"
        write_file(
            student,
            path,
            signature=context.dataset.task.signature,
            precision=candidate.precision,
            calibration=context.calibration,
            watch=Stopwatch(),
        )
        images = context.dataset.validation
        metrics = measure_metrics(
            path, context.dataset.task, inputs=to_arrays(images.inputs), targets=to_arrays(images.targets)
        )
        accuracy = metrics["accuracy"]
        net = TimedNet(path, block_ms=1e-6)
        latency = statistics.median(net.block_ms() for _ in range(200))
        finds.add(path)
        if finds.seconds > seconds:
            trial.study.stop()
        return accuracy, latency, float(path.stat().st_size)

    sampler = optuna.samplers.NSGAIISampler(seed=parts.spec.seed)
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"], sampler=sampler)
    study.optimize(objective, catch=(RuntimeError, NasCompressError))


def _run(file: StudyFile, root: Path, workers: int) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: (_ for _ in ()).throw(KeyboardInterrupt))
    torch.set_num_threads(1)
    try:
        run_study(file, out=root, trials=100_000, workers=workers)
    except KeyboardInterrupt:
        return


def search_by_run(file: StudyFile, out: Path, seconds: float, workers: int) -> None:
    """Search with `run` until the time is over, counted from the moment at which its first trial can begin."""
    root = out / "run"
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(file, root, workers))
    process.start()
    while not (root / "teacher" / "outcome.json").is_file():
        if not process.is_alive():
            raise SystemExit("the run ended before its first trial")
        time.sleep(0.02)
    clock = Clock(process=process.pid or 0)
    seen = [(0.0, 0.0)]
    while seen[-1][1] < seconds and process.is_alive():
        time.sleep(LOOK_S)
        seen.append((clock.wall_seconds, clock.seconds))
    process.terminate()
    process.join()
    folder, (walls, processor) = RunFolder(root=root), zip(*seen, strict=True)
    for record in read_records(folder):
        if record.model and record.repeats is None:
            wall = (folder.trial(record.trial) / "outcome.json").stat().st_mtime - clock.begun_wall
            at = float(np.interp(wall, walls, processor))
            add_find(out, root / record.model, seconds=at, wall_seconds=wall)


def search(given: argparse.Namespace) -> None:
    """Run one search of one contender."""
    out = given.out.absolute()
    own_cache(out)
    place = warmed(open_workplace(given.study, given.seed), out)
    if given.contender == "run":
        search_by_run(contest_file(given.study, given.seed), out, given.seconds, given.workers)
    else:
        search_by_hand(place, Finds(folder=out), given.seconds)


def compare(given: argparse.Namespace) -> None:
    """Compare all finished searches, well-known contenders first."""
    file = contest_file(given.study, 0)
    teacher = measure_teacher(given.folders[0] / "warm" / "teacher", file)
    curves = [curve_of(folder, file, teacher, clock=given.clock, again=given.again) for folder in given.folders]
    print(f"{describe_machine()}; {given.study}, {given.seconds:g} s of {given.clock} time each")
    noisy, files = count_noisy(given.folders)
    print(f"{noisy} of {files} latencies found no fast moment of the machine")
    print_table(curves, given.seconds)
    write_curves(curves, given.out.with_suffix(".csv"))
    draw(curves, given.seconds, given.out.with_suffix(".png"), clock=given.clock)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    shared: Any = contest_parser("")
    one = commands.add_parser("search", parents=[shared], conflict_handler="resolve", help="one search")
    one.add_argument("contender", choices=["run", "by_hand"])
    one.add_argument("--workers", type=int, default=1, help="of our run")
    one.set_defaults(act=search)
    all_ = commands.add_parser("compare", help="measure the files of searches and compare them")
    all_.add_argument("folders", type=Path, nargs="+", help="called <contender>-<seed>")
    all_.add_argument("--again", action="store_true", help="measure noisy latencies again")
    all_.add_argument("--clock", choices=list(CLOCKS), default="processor", help="which seconds are compared")
    all_.add_argument("--study", default="studies/digits")
    all_.add_argument("--seconds", type=float, default=240.0)
    all_.add_argument("--out", type=Path, default=Path("live"))
    all_.set_defaults(act=compare)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    given.act(given)


if __name__ == "__main__":
    main()
