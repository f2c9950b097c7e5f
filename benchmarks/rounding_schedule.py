"""Measure accuracy on digits by the number of epochs with rounding.

Run: python benchmarks/rounding_schedule.py [--family mobilenet] [--seeds 3]

0 epochs: rounding after training. All epochs: rounding from the first step, with one learning rate schedule. Between: a
complete float training, then the remaining epochs at half of the learning rate. The tool itself uses 4. Output: mean
and standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from copy import deepcopy

import torch
from torch import nn

from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import build_student
from nas_compress.quantization.layer_bits import bits_by_layer, weight_layers
from nas_compress.quantization.quantize import quantize
from nas_compress.quantization.training_aware import make_aware_
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective
from nas_compress.trial.training import ROUNDING_RATE
from nas_compress.values.candidate import cross_entropy
from nets import architecture

EPOCHS, WIDTHS, ROUNDING = 14, (4, 2), (0, 2, 4, 7, 14)
RATE = 0.01
FAMILIES = ("resnet", "mobilenet")


def fit(network: nn.Module, dataset: Dataset, *, epochs: int, rate: float, seed: int) -> None:
    train(
        network,
        dataset.train,
        dataset.augmentation,
        objective=LossObjective(TrainingLoss(dataset.task, cross_entropy())),
        epochs=epochs,
        batch_size=32,
        learning_rate=rate,
        weight_decay=1e-4,
        seed=seed,
    )


def accuracy(network: nn.Module, dataset: Dataset, bits: int) -> float:
    """Return the accuracy of the frozen student, equal to that of the file."""
    samples = dataset.train.inputs["input"][:256]
    frozen = quantize(network, weight_bits=bits, activation_bits=8, calibration={"input": samples}, ranges="mse")
    with torch.no_grad():
        right = frozen(dataset.validation.inputs["input"]).argmax(dim=1) == dataset.validation.targets["label"]
    return float(right.float().mean())


def spread(accuracies: list[float]) -> str:
    return f"{100 * statistics.mean(accuracies):.1f} ± {100 * statistics.stdev(accuracies):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--family", choices=FAMILIES, action="append")
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    families = chosen.family or FAMILIES
    dataset = load_dataset(name="digits", shift=1)
    print("| family | weight bits | " + " | ".join(f"{count} of {EPOCHS} epochs" for count in ROUNDING) + " |")
    print("|---|---|" + "---|" * len(ROUNDING))
    for family in families:
        found: dict[tuple[int, int], list[float]] = {}
        for seed in range(chosen.seeds):
            for rounding in ROUNDING:
                torch.manual_seed(seed)
                shape = architecture(family, (1, 8, 8), depths=(1, 1, 1), multiplier=0.5)
                started = build_student(shape)
                if rounding < EPOCHS:
                    fit(started, dataset, epochs=EPOCHS - rounding, rate=RATE, seed=seed)
                for bits in WIDTHS:
                    network = deepcopy(started)
                    if rounding:
                        make_aware_(
                            network,
                            method="lsq",
                            bits=bits_by_layer(weight_layers(network), weight_bits=bits),
                            activation_bits=8,
                            calibration={"input": dataset.train.inputs["input"][:256]},
                        )
                        rate = RATE if rounding == EPOCHS else ROUNDING_RATE * RATE
                        fit(network, dataset, epochs=rounding, rate=rate, seed=seed + 1)
                    reached = accuracy(network, dataset, bits)
                    found.setdefault((bits, rounding), []).append(reached)
                    print(family, seed, rounding, bits, f"{reached:.4f}", file=sys.stderr, flush=True)
        for bits in WIDTHS:
            cells = [spread(found[bits, rounding]) for rounding in ROUNDING]
            print(f"| {family} | {bits} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
