"""Fake quantization against the integers of the file, on 2,000 real samples, at every width of the weights.

Compared are the network that is exported, by class and by logits, and, more loosely, the one that rounded in training
before it was frozen. Run with `-m slow -s`, it prints the table of benchmarks/README.md. Activations of 4 bits are
simulated, and their classes compared only by what `check_agreement` asks of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from image_files import export_images, predict_logits
from nas_compress.data.dataset import Dataset
from nas_compress.data.fashion_mnist import CONTENT, search_folders
from nas_compress.data.load_dataset import load_dataset
from nas_compress.devices.onnx_session import open_session
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import build_student, family_named
from nas_compress.quantization.layer_bits import bits_by_layer, weight_layers
from nas_compress.quantization.quantize import quantize
from nas_compress.quantization.training_aware import make_aware_
from nas_compress.tasks.classification import AGREEMENT as LEAST
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.candidate import cross_entropy
from nas_compress.values.family_settings import family_settings
from nas_compress.values.precision import precisions
from processors import integer_kernels_saturate

SAMPLES, TRAINED_ON = 2000, 5000
AGREEMENT = 0.995
BEFORE_FREEZING = {32: AGREEMENT, 8: 0.95, 4: 0.5}
"""By bits of the activations, of a mobilenet as it trains: its scales and biases become 16-bit floats, and its biases
whole integers, only when it is frozen. With signs as weights and activations of 4 bits 0.61 to 0.75 were met."""

APART = {32: 0.001, 8: 0.03, 4: 0.1}
"""By bits of the activations: how far a logit of the exported network may be from the file's, of the largest logit."""

FORMS = [(*bits, "integer") for bits in precisions()] + [(8, 32, "float8")]


@pytest.fixture(scope="module")
def clothes() -> Dataset:
    found = [folder for folder in search_folders() for name in CONTENT if list(folder.glob(f"{name}*"))]
    if not found:
        pytest.skip("needs the files of Fashion-MNIST, which NAS_COMPRESS_DATA names")
    return load_dataset(name="fashion-mnist", train_samples=TRAINED_ON, shift=0, flip=True)


def fit(network: nn.Module, dataset: Dataset, *, epochs: int, rate: float) -> None:
    objective = LossObjective(TrainingLoss(dataset.task, cross_entropy()))
    train(
        network, dataset.train, dataset.augmentation, objective=objective, epochs=epochs, batch_size=64,
        learning_rate=rate, weight_decay=0.01, seed=0,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["resnet", "mobilenet", "vit"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def started(family: str, clothes: Dataset) -> nn.Module:
    """A float network of half the family's widths that knows most of the articles."""
    known = family_named(family)
    depths = (1,) * len(known.base_depths)
    shape = Architecture(
        signature=clothes.task.signature,
        normalisation=clothes.normalisation,
        family=family,
        depths=depths,
        widths=tuple(
            Width(layer=layer, asked=base // 2, channels=base // 2)
            for layer, base in known.layers(depths, known.base_widths)
        ),
        settings=family_settings(family, {} if family == "vit" else {"stem_stride": 2}),
    )
    torch.manual_seed(0)
    network = build_student(known.complete(shape))
    fit(network, clothes, epochs=8, rate=0.003 if family == "vit" else 0.01)
    return network


def rounding(network: nn.Module, dataset: Dataset, *, weight_bits: int, activation_bits: int) -> nn.Module:
    """A copy that rounds, after an epoch under it where activations round too; the network itself at 16 and 32 bits."""
    aware = deepcopy(network)
    if weight_bits <= 8:
        make_aware_(
            aware,
            method="lsq",
            bits=bits_by_layer(weight_layers(aware), weight_bits=weight_bits),
            activation_bits=activation_bits,
            calibration={"input": dataset.train.inputs["input"][:256]},
        )
        if activation_bits < 32:
            fit(aware, dataset, epochs=1, rate=0.003)
    return aware.eval()


def answers(module: nn.Module, samples: torch.Tensor) -> Iterator[np.ndarray]:
    with torch.no_grad():
        for batch in samples.split(250):
            yield module(batch).numpy()


@pytest.mark.slow
def test_fake_quantization_is_what_the_file_computes(
    family: str, started: nn.Module, clothes: Dataset, tmp_path: Path
) -> None:
    samples, wrong = clothes.validation.inputs["input"][:SAMPLES], []
    for weight_bits, activation_bits, weight_format in FORMS:
        trained = weight_format == "integer"
        aware = started if not trained else rounding(
            started, clothes, weight_bits=weight_bits, activation_bits=activation_bits
        )  # fmt: skip
        module = quantize(
            aware, weight_bits=weight_bits, activation_bits=activation_bits,
            calibration={"input": clothes.train.inputs["input"][:256]},
            weight_format=weight_format,
        )  # fmt: skip
        export_images(module, (1, 28, 28), tmp_path / "m.onnx")
        # kernels that saturate say nothing about the file
        session = open_session(tmp_path / "m.onnx", optimised=not integer_kernels_saturate())
        logits = predict_logits(session, samples.numpy())
        expected = np.concatenate(list(answers(module, samples)))
        training = np.concatenate(list(answers(aware, samples))) if trained else expected
        alike, before = (float((logits.argmax(axis=1) == each.argmax(axis=1)).mean()) for each in (expected, training))
        apart, parted = (float(np.abs(logits - each).max() / np.abs(each).max()) for each in (expected, training))
        right = float((logits.argmax(axis=1) == clothes.validation.targets["label"][:SAMPLES].numpy()).mean())
        weights = str(weight_bits) if trained else weight_format
        figures = f"{alike:.2%} | {apart:.4f} | {before:.2%} | {parted:.4f} | {right:.1%}"
        print(f"| {family} | {weights} | {activation_bits} | {figures} |")
        needed = {32: AGREEMENT, 8: AGREEMENT, 4: LEAST["few_bits"]}
        enough = needed[activation_bits]
        enough_before = (BEFORE_FREEZING if family == "mobilenet" else needed)[activation_bits]
        if alike < enough or apart > APART[activation_bits] or before < enough_before:
            wrong.append((weight_bits, activation_bits, weight_format, alike, apart, before))
    assert not wrong
