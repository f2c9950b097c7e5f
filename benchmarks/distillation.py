"""What a step of each way of teaching costs, as a ratio to a bare step of plain training beside it.

    python benchmarks/distillation.py [--seconds 6]

A bare step is forward, cross-entropy and backward of the same student on a batch that lies ready, run between any two
steps of the training. The teacher is a resnet (or vit) of about ten times the student's compute; its logits come from
the cache, its features from one pass a batch. Median ratio [middle half]; the update is included.
"""

from __future__ import annotations

import argparse
import contextlib

import torch
from torch import nn

from nas_compress.architecture import Architecture, Width
from nas_compress.candidate import LossTerm, distillation
from nas_compress.data.views import Views
from nas_compress.losses.terms import TERMS, feature_terms, needs_teacher
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.measurement.machine import describe_machine
from nas_compress.models.families import build_student, family_named
from nas_compress.observation import ObservableNetwork
from nas_compress.training.lesson import TaughtLesson, look
from nas_compress.training.loop import train
from nas_compress.training.mutual import MutualLesson
from nets import random_samples
from training_step import Enough, Paced, plain_steps, ratio

SHAPE, BATCH, VIEWS = (1, 8, 8), 64, Views(shift=1)
KD = distillation(hard_weight=0.1, soft_weight=0.9, temperature=4.0)
ALONE = {"cross_entropy", "label_smoothing", "teacher_free", "label_refinery"}


def network(family: str, multiplier: float) -> ObservableNetwork:
    """A network with its family's base shape, scaled in width."""
    known = family_named(family)
    layers = known.layers(known.base_depths, known.base_widths)
    widths = tuple(
        Width(layer=layer, asked=base * multiplier, channels=max(16, round(base * multiplier / 16) * 16))
        for layer, base in layers
    )
    torch.manual_seed(0)
    shape = Architecture(
        family=family, input_shape=SHAPE, classes=10, depths=known.base_depths, widths=widths, mean=128, std=74.0
    )
    return build_student(known.complete(shape)).to(memory_format=torch.channels_last)  # as the loop lays it out


def losses(name: str) -> tuple[LossTerm, ...]:
    """The term alone, or beside cross-entropy."""
    term = LossTerm(name=name)
    return (term,) if name in ALONE else (LossTerm(name="cross_entropy"), term)


def lesson_of(terms: tuple[LossTerm, ...], student: ObservableNetwork, teacher: ObservableNetwork) -> TaughtLesson:
    """A lesson with the cached answers and the network of the teacher."""
    samples = random_samples(20 * BATCH, SHAPE).inputs[:2]
    with torch.no_grad():
        seen = [look(each.eval(), samples, relations=True) for each in (student, teacher)]
    answers = torch.randn((VIEWS.count, 20 * BATCH, 10), generator=torch.Generator().manual_seed(0)).half()
    watched = bool(feature_terms(terms))
    return TaughtLesson(
        TrainingLoss(terms, student=seen[0], teacher=seen[1]),
        answers=answers if needs_teacher(terms) else None,
        teacher=teacher if watched else None,
    )


def measure(lesson: TaughtLesson | MutualLesson, student: nn.Module, bare: nn.Module, seconds: float) -> str:
    """The ratio of a training's step to the bare one."""
    samples = random_samples(20 * BATCH, SHAPE)
    others = plain_steps(bare.train(), samples.inputs[:BATCH], samples.labels[:BATCH])
    paced = Paced(lesson, {"bare": others["bare"]}, seconds=seconds)
    with contextlib.suppress(Enough):
        train(
            student,
            samples,
            VIEWS,
            lesson=paced,
            epochs=10_000,
            batch_size=BATCH,
            learning_rate=1e-5,
            weight_decay=0.01,
            seed=0,
        )
    return f"{ratio(paced.taken, 'loop')}   n = {len(paced.taken)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each method")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    print(describe_machine())
    print(f"{'student':8} {'method':26} step / bare step")
    for family, small, large in (("resnet", 0.25, 1.0), ("vit", 0.5, 2.0)):
        teacher = network(family, large).eval()
        for name, term in TERMS.items():
            transformer = term.needs in ("tokens", "relations")
            if transformer != (family == "vit") and name != "cross_entropy":
                continue
            student = network(family, small)
            found = measure(lesson_of(losses(name), student, teacher), student, network(family, small), seconds)
            print(f"{family:8} {name:26} {found}", flush=True)
    student, peer = network("resnet", 0.25), network("resnet", 0.25)
    mutual = MutualLesson([peer], [TrainingLoss(KD), TrainingLoss(KD)])
    print(f"{'resnet':8} {'mutual learning, kd':26} {measure(mutual, student, network('resnet', 0.25), seconds)}")
    together = (*KD, LossTerm(name="fitnet"), LossTerm(name="attention_transfer"), LossTerm(name="rkd_distance"))
    student, teacher = network("resnet", 0.25), network("resnet", 1.0).eval()
    found = measure(lesson_of(together, student, teacher), student, network("resnet", 0.25), seconds)
    print(f"{'resnet':8} {'kd + three on features':26} {found}")


if __name__ == "__main__":
    main()
