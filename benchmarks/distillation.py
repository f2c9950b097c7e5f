"""Measure the cost of a step of each kind of teaching, relative to plain training of the same student.

    python benchmarks/distillation.py [--seconds 6] [--method kd ...]

Both are steps of the training loop with the update. Both are first divided by a bare step (forward, cross-entropy and
backward on a prepared batch) that runs between any two of them, which removes the state of the machine. The teacher is
a resnet (or vit) with about ten times the student's compute. Its logits are cached; its features need one pass per
batch, or are read from a file (`stored`). Output: median [middle half].
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.losses.table import TERMS, feature_terms, needs_teacher
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import build_student, family_named
from nas_compress.models.features import ObservableNetwork, Observation
from nas_compress.tasks.classification import Classification
from nas_compress.teacher.features.stored import (
    StoredFeatures,
    cached_features,
    features_bytes,
    observer,
    parts_of,
)
from nas_compress.training.loop import train
from nas_compress.training.mutual_objective import MutualObjective
from nas_compress.training.objective import LossObjective, TrainingObjective, observe
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.candidate import LossTerm, distillation
from nets import random_samples
from training_step import WARM_UP, Enough, Paced, plain_steps

SHAPE, BATCH, VIEWS = (1, 8, 8), 64, ShiftAndFlip(shift=1)
TASK = Classification.of_images(shape=SHAPE, classes=10)
KD = distillation(hard_weight=0.1, soft_weight=0.9, temperature=4.0)
ALONE = {"task_loss", "cross_entropy", "label_smoothing", "teacher_free", "label_refinery"}


def network(family: str, multiplier: float) -> ObservableNetwork:
    """Build a network with the base shape of its family, scaled in width."""
    known = family_named(family)
    layers = known.layers(known.base_depths, known.base_widths)
    widths = tuple(
        Width(layer=layer, asked=base * multiplier, channels=max(16, round(base * multiplier / 16) * 16))
        for layer, base in layers
    )
    torch.manual_seed(0)
    shape = Architecture.of_images(
        SHAPE, classes=10, mean=128, std=74.0, family=family, depths=known.base_depths, widths=widths
    )
    return build_student(known.complete(shape)).to(memory_format=torch.channels_last)  # as the loop lays it out


def losses(name: str) -> tuple[LossTerm, ...]:
    """Return the term alone, or with cross-entropy."""
    term = LossTerm(name=name)
    return (term,) if name in ALONE else (LossTerm(name="cross_entropy"), term)


def objective_of(
    terms: tuple[LossTerm, ...], student: ObservableNetwork, teacher: ObservableNetwork, *, folder: Path | None = None
) -> LossObjective:
    """An objective with the cached answers and the network of the teacher. folder: store its features there."""
    batch = random_samples(2, SHAPE).inputs
    with torch.no_grad():
        seen = [observe(each.eval(), batch, TASK, relations=True) for each in (student, teacher)]
    answers = torch.randn((VIEWS.count, 20 * BATCH, 10), generator=torch.Generator().manual_seed(0)).half()
    watched = bool(feature_terms(terms))
    loss = TrainingLoss(TASK, terms, student=seen[0], teacher=seen[1])
    return LossObjective(
        loss,
        answers=answers if needs_teacher(terms) else None,
        teacher=teacher if watched else None,
        stored=features_in(folder, loss, seen[1], teacher) if watched and folder is not None else None,
    )


def features_in(folder: Path, loss: TrainingLoss, seen: Observation, teacher: ObservableNetwork) -> StoredFeatures:
    """Store the features that the loss reads, of the samples that `measure` trains on."""
    samples = random_samples(20 * BATCH, SHAPE)
    parts = parts_of(seen, features=loss.teacher_features, relations=loss.teacher_relations)
    print(f"    {features_bytes(parts, samples=len(samples), views=VIEWS.count) / 2**20:.0f} MiB", flush=True)
    return cached_features(
        folder / f"{'-'.join(loss.adapters)}.f32",
        observer(teacher, samples, VIEWS, lambda network, batch: observe(network, batch, TASK, relations=True)),
        parts,
        samples=len(samples),
        views=VIEWS.count,
        batch=BATCH,
        patches=seen.patches,
        identity={},
        notice=print,
    )


def measure(objective: TrainingObjective, student: nn.Module, bare: nn.Module, seconds: float) -> list[float]:
    """Return the quartiles of the ratio of a training step to the bare step, and the number of steps."""
    samples = random_samples(20 * BATCH, SHAPE)
    others = plain_steps(bare.train(), samples.inputs["input"][:BATCH], samples.targets["label"][:BATCH])
    paced = Paced(objective, {"bare": others["bare"]}, seconds=seconds)
    with contextlib.suppress(Enough):
        train(
            student,
            samples,
            VIEWS,
            objective=paced,
            epochs=10_000,
            batch_size=BATCH,
            learning_rate=1e-5,
            weight_decay=0.01,
            seed=0,
        )
    taken = paced.taken[WARM_UP:]
    return [*statistics.quantiles((step["loop"] / step["bare"] for step in taken), n=4), len(taken)]


def objectives(
    family: str, multiplier: float, folder: Path
) -> dict[str, Callable[[ObservableNetwork], TrainingObjective]]:
    """Return every kind of teaching for a family, plain training first."""
    teacher = network(family, multiplier).eval()
    transformer = {name: term.needs in ("tokens", "relations") for name, term in TERMS.items()}
    names = ["cross_entropy"] + [
        name for name, own in transformer.items() if own == (family == "vit") and name != "cross_entropy"
    ]
    found: dict[str, Callable[[ObservableNetwork], TrainingObjective]] = {
        name: functools.partial(objective_of, losses(name), teacher=teacher) for name in names
    }
    for name in names:
        if feature_terms(losses(name)):
            found[f"{name}, stored"] = functools.partial(objective_of, losses(name), teacher=teacher, folder=folder)
    if family == "resnet":
        together = (*KD, LossTerm(name="fitnet"), LossTerm(name="attention_transfer"), LossTerm(name="rkd_distance"))
        found["kd + three on features"] = functools.partial(objective_of, together, teacher=teacher)
        found["mutual learning, kd"] = lambda student: MutualObjective(
            [network("resnet", 0.25)], [TrainingLoss(TASK, KD), TrainingLoss(TASK, KD)]
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each method")
    parser.add_argument("--method", action="append", help="only these, beside plain training")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine())
    print(f"{'student':8} {'method':26} step / step of plain training")
    with TemporaryDirectory(prefix="nas_compress_") as folder:
        for family, small, large in (("resnet", 0.25, 1.0), ("vit", 0.5, 2.0)):
            compare(family, small, large, Path(folder) / family, given)


def compare(family: str, small: float, large: float, folder: Path, given: argparse.Namespace) -> None:
    """Print a row for each kind of teaching of a family."""
    plain = 0.0
    for name, make in objectives(family, large, folder).items():
        if plain and given.method and name.removesuffix(", stored") not in given.method:
            continue
        student = network(family, small)
        low, middle, high, count = measure(make(student), student, network(family, small), given.seconds)
        plain = plain or middle
        told = f"{middle / plain:.2f} [{low / plain:.2f}-{high / plain:.2f}]"
        print(f"{family:8} {name:26} {told}   n = {count:.0f}", flush=True)


if __name__ == "__main__":
    main()
