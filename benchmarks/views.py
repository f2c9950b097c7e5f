"""Measure the cost of augmentation: an epoch with drawn views over one with shift and flip, and the memory of both.

    python benchmarks/views.py [--samples 2000] [--rounds 3]

Each kind trains one epoch per round, in turn. The ratio is the median over the rounds, of processor times within a
round. Peak memory is that of a process of its own, which trains two epochs on two views.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time

import torch
from torch import Tensor

from nas_compress.data.augment.choose import Drawing, drawn
from nas_compress.data.augment.protocol import Augmentation
from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.data.augment.user_function import UserFunction
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.losses.table import TASK_LOSS
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import build_student
from nas_compress.tasks.classification import Classification
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective
from nets import architecture, random_samples

SHAPE, CLASSES, BATCH = (3, 32, 32), 10, 128

TASK = Classification.of_images(shape=SHAPE, classes=CLASSES)


def noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    """Add up to two grey levels to each pixel, as a function of a user."""
    return (images + torch.randint(0, 3, images.shape, generator=generator)).to(images.dtype)


DRAWINGS = {
    "shift, flip, 1000 views": Drawing(views=1000),
    "crop": Drawing(crop=0.25, views=1000),
    "crop, erase": Drawing(crop=0.25, erase=0.5, views=1000),
    "crop, mixup, cutmix": Drawing(crop=0.25, mixup=0.2, cutmix=1.0, views=1000),
    "function": Drawing(augment="benchmark:noisy", views=1000),
}
"""Kinds of augmentation; all have shift and flip too."""


def augmentation(name: str) -> Augmentation:
    """Return shift and flip, alone or with a drawing."""
    base = ShiftAndFlip(shift=2, flip=True)
    if name not in DRAWINGS:
        return base
    function = UserFunction(reference="benchmark:noisy", function=noisy, of_samples=False, digest="", where="")
    own = function if DRAWINGS[name].augment else None
    return drawn(base, DRAWINGS[name], task=TASK, seed=0, function=own)


def epochs(name: str, samples: int, count: int) -> float:
    """Train a small network; return the processor seconds."""
    network = build_student(architecture("resnet", SHAPE, depths=(1, 1, 1), multiplier=0.25))
    begun = time.process_time()
    train(
        network,
        random_samples(samples, SHAPE),
        augmentation(name),
        objective=LossObjective(TrainingLoss(TASK, TASK_LOSS)),
        epochs=count,
        batch_size=BATCH,
        learning_rate=0.01,
        weight_decay=0.01,
        seed=0,
    )
    return time.process_time() - begun


def peak(name: str, samples: int) -> float:
    """Return the peak memory of this process after two epochs, in MB."""
    torch.set_num_threads(1)
    epochs(name, samples, 2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    """Print one row for each kind of augmentation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = ["shift, flip", *DRAWINGS]
    epochs(names[0], 2 * BATCH, 1)
    rounds = [{name: epochs(name, options.samples, 1) for name in names} for _ in range(options.rounds)]
    print(f"{describe_machine()}, {options.samples} samples of {SHAPE}, one thread\n")
    print("| augmentation | epoch, s | over shift and flip | peak memory, MB |\n|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    for name in names:
        with context.Pool(1) as pool:
            memory = pool.apply(peak, (name, options.samples))
        ratio = statistics.median(each[name] / each[names[0]] for each in rounds)
        seconds = statistics.median(each[name] for each in rounds)
        print(f"| {name} | {seconds:.2f} | {ratio:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
