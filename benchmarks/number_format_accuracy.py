"""Compare the accuracy of students trained with bfloat16 products with that of students trained in float32.

    python benchmarks/number_format_accuracy.py [--family mobilenet] [--seeds 5]

10,000 images of Fashion-MNIST, 4 epochs, batches of 128; 6,000 validation images, judged in float32. Both trainings of
a pair have the same start and the same batches. W32 is the float network. W8A8 is the same one with integers of 8 bits
after training. W2A8 is the same one after another epoch with rounding by `lsq`, which is float32 in both. Differences
are bfloat16 minus float32 in points: the mean and its standard error over the seeds. Processor time: that of the float
epochs, as a share of float32.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import build_student
from nas_compress.quantization.layer_bits import bits_by_layer, weight_layers
from nas_compress.quantization.quantize import quantize
from nas_compress.quantization.training_aware import make_aware_
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective
from nas_compress.training.precision import Products
from nas_compress.training.validate import evaluate
from nas_compress.trial.training import ROUNDING_RATE
from nas_compress.values.candidate import cross_entropy
from nets import architecture

SAMPLES, EPOCHS, BATCH, RATE = 10_000, 4, 128, 0.01
WIDTHS = {"resnet": 0.5, "mobilenet": 1.0}
"""Families with their multiples of the base widths."""

FORMATS: tuple[Products, ...] = ("float32", "bfloat16")
KINDS = ("W32", "W8A8", "W2A8")


def fit(network: nn.Module, data: Dataset, *, epochs: int, rate: float, seed: int, products: Products) -> float:
    """Train and return the seconds of processor time."""
    began = time.process_time()
    train(
        network,
        data.train,
        data.augmentation,
        objective=LossObjective(TrainingLoss(data.task, cross_entropy())),
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=rate,
        weight_decay=0.01,
        seed=seed,
        products=products,
    )
    return time.process_time() - began


def trained(family: str, data: Dataset, *, seed: int, products: Products) -> tuple[dict[str, float], float]:
    """Return the percentages of right answers by kind, and the seconds of the float epochs."""
    torch.manual_seed(seed)
    network = build_student(architecture(family, (1, 28, 28), depths=(1, 1, 1), multiplier=WIDTHS[family]))
    calibration = data.train.first(256).inputs
    seconds = fit(network, data, epochs=EPOCHS, rate=RATE, seed=seed, products=products)

    def accuracy(weights: int, activations: int) -> float:
        file = quantize(
            network.eval(), weight_bits=weights, activation_bits=activations, calibration=calibration, ranges="mse"
        )
        return 100 * evaluate(file, data.validation, data.task)["accuracy"]

    found = {"W32": accuracy(32, 32), "W8A8": accuracy(8, 8)}
    bits = bits_by_layer(weight_layers(network), weight_bits=2)
    make_aware_(network, method="lsq", bits=bits, activation_bits=8, calibration=calibration)
    fit(network, data, epochs=1, rate=ROUNDING_RATE * RATE, seed=seed + 1, products="float32")
    return found | {"W2A8": accuracy(2, 8)}, seconds


def main() -> None:
    """Print a row for each pair of trainings, then a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--family", choices=WIDTHS, action="append")
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = load_dataset(name="fashion-mnist", train_samples=SAMPLES, shift=1, flip=True)
    print(f"{describe_machine()}; torch {torch.__version__}, {len(data.train)} + {len(data.validation)} images\n")
    families = chosen.family or list(WIDTHS)
    found: dict[str, list[dict[Products, tuple[dict[str, float], float]]]] = {family: [] for family in families}
    for seed in range(chosen.seeds):
        for family in families:
            pair = {products: trained(family, data, seed=seed, products=products) for products in FORMATS}
            found[family].append(pair)
            print(
                family, seed, {products: (reached, round(s, 1)) for products, (reached, s) in pair.items()}, flush=True
            )
    print("\n| family | kind | float32, % | bfloat16, % | difference, points | pairs | processor time |")
    print("|---|---|---|---|---|---|---|")
    for family, pairs in found.items():
        share = statistics.median(pair["bfloat16"][1] / pair["float32"][1] for pair in pairs)
        for kind in KINDS:
            means = [statistics.mean(pair[products][0][kind] for pair in pairs) for products in FORMATS]
            gaps = [pair["bfloat16"][0][kind] - pair["float32"][0][kind] for pair in pairs]
            error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
            print(
                f"| {family} | {kind} | {means[0]:.2f} | {means[1]:.2f} | {statistics.mean(gaps):+.2f} ± {error:.2f} "
                f"| {len(gaps)} | {share:.2f} |"
            )


if __name__ == "__main__":
    main()
