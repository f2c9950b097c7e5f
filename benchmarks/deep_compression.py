"""Prune, share, pack, code: the bytes of each step and the accuracy of the files, beside the float32 original.

Run: python benchmarks/deep_compression.py [--data fashion-mnist] [--train-samples 20000] [--epochs 24]

One network is trained in float32, and students of its shape with zeros and shared values are trained from scratch for
as many epochs. Every row is a file that was written and measured by onnxruntime on the validation split.
"""

from __future__ import annotations

import argparse
import bz2
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from nas_compress.candidate import Candidate, Quantization
from nas_compress.data.load import load_dataset
from nas_compress.data.splits import Dataset
from nas_compress.export.container import compress
from nas_compress.export.layout import Layout
from nas_compress.export.onnx_file import export_onnx
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.measurement.prediction import measure_accuracy
from nas_compress.models.families import build_student
from nas_compress.quantization.awareness import make_aware_
from nas_compress.quantization.layer_bits import bits_by_layer, weight_layers
from nas_compress.quantization.quantize import quantize
from nas_compress.training.lesson import TaughtLesson
from nas_compress.training.loop import train
from nas_compress.training.schedule import epochs_under_rounding
from nas_compress.trial.fit import ROUNDING_RATE, sparsifier_of
from nets import architecture

PLAIN = Candidate(family="resnet", depths=(1, 1, 1))
SHARED = Quantization(method="lsq", weight_format="codebook")
STUDENTS = {
    "float32": PLAIN,
    "80 % zeros": replace(PLAIN, zero_pattern="gradual", zero_fraction=0.8),
    "80 % zeros, 16 shared values": replace(
        PLAIN, zero_pattern="gradual", zero_fraction=0.8, weight_bits=4, quantization=SHARED
    ),
    "80 % zeros, 16 shared values, integer kernels": replace(
        PLAIN, zero_pattern="gradual", zero_fraction=0.8, weight_bits=4, activation_bits=8, quantization=SHARED
    ),
    "90 % zeros, 16 shared values, integer kernels": replace(
        PLAIN, zero_pattern="gradual", zero_fraction=0.9, weight_bits=4, activation_bits=8, quantization=SHARED
    ),
}


def trained(candidate: Candidate, dataset: Dataset, epochs: int, rate: float, batch: int) -> nn.Module:
    """A student trained as a trial trains it, by cross-entropy."""
    torch.manual_seed(0)
    shape = architecture("resnet", dataset.input_shape, depths=(1, 1, 1), multiplier=0.5)
    student = build_student(replace(shape, mean=dataset.mean, std=dataset.std, classes=dataset.classes))
    rounding = epochs_under_rounding(epochs) if candidate.quantization.is_trained else 0
    sparsifier = sparsifier_of(candidate, student, seed=0)
    for part, peak in ((epochs - rounding, rate), (rounding, rate * ROUNDING_RATE)):
        if peak != rate and part:
            make_aware_(
                student,
                method=candidate.quantization.method,
                bits=bits_by_layer(weight_layers(student), weight_bits=candidate.weight_bits),
                activation_bits=candidate.activation_bits,
                calibration=dataset.train.inputs[:256],
                weight_format=candidate.quantization.weight_format,
            )
        if part:
            train(
                student,
                dataset.train,
                dataset.views,
                lesson=TaughtLesson(TrainingLoss(candidate.losses)),
                epochs=part,
                batch_size=batch,
                learning_rate=peak,
                weight_decay=0.01,
                seed=0,
                sparsifier=sparsifier,
            )
    return student


def files(student: nn.Module, candidate: Candidate, dataset: Dataset, folder: Path) -> Iterator[tuple[str, Path]]:
    """The steps of one student, each as a file of its own."""
    module = quantize(
        student,
        weight_bits=candidate.weight_bits,
        activation_bits=candidate.activation_bits,
        calibration=dataset.train.inputs[:256],
        weight_format=candidate.quantization.weight_format,
    )
    layouts = {"a float a weight": Layout(integers="floats")}
    if candidate.weight_bits < 32:
        layouts |= {"a byte a weight": Layout(integers="bytes"), "packed": Layout()}
    if candidate.zero_pattern != "none":
        layouts["without its zeros"] = Layout(sparse=True)
    for name, layout in layouts.items():
        path = folder / f"{name}.onnx"
        export_onnx(module, dataset.input_shape, path, layout=layout)
        yield name, path
    path = folder / "coded.onnx.xz"
    export_onnx(module, dataset.input_shape, path, layout=Layout(sparse=candidate.zero_pattern != "none"))
    yield "entropy-coded", path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="digits")
    parser.add_argument("--train-samples", type=int)
    parser.add_argument("--epochs", type=int, default=24)
    chosen = parser.parse_args()
    digits = chosen.data == "digits"
    dataset = load_dataset(name=chosen.data, train_samples=chosen.train_samples)
    validation, original = dataset.validation, 0
    print("| student | file | bytes | original / bytes | validation accuracy |\n|---|---|---|---|---|")
    for name, candidate in STUDENTS.items():
        rate, batch = (1e-2, 32) if digits else (5e-3, 128)
        student = trained(candidate, dataset, chosen.epochs, rate, batch).cpu().eval()
        with tempfile.TemporaryDirectory() as folder:
            for step, path in files(student, candidate, dataset, Path(folder)):
                size = path.stat().st_size
                original = original or size
                accuracy = measure_accuracy(path, validation.inputs.numpy(), validation.labels.numpy())
                print(f"| {name} | {step} | {size:,} | {original / size:.1f} | {accuracy:.2%} |", flush=True)
            last = (Path(folder) / "a byte a weight.onnx") if candidate.weight_bits < 32 else None
            if last is not None:
                content = last.read_bytes()
                sizes = [len(zlib.compress(content, 9)), len(bz2.compress(content, 9)), len(compress(content))]
                print(f"<!-- a byte a weight in zlib, bz2, xz: {', '.join(f'{size:,}' for size in sizes)} -->")


if __name__ == "__main__":
    main()
