"""Every task trains, exports and measures with every family that takes it, with pruning, bits and losses in pairs."""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from covering import pairwise
from nas_compress.config.schema import TrainingSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.losses.table import TERMS
from nas_compress.losses.term_kinds import FeatureTerm, LogitTerm
from nas_compress.models.families import FAMILIES
from nas_compress.models.macs import count_macs
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate, LossTerm
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.signature import Signature, TensorSpec
from processors import skip_if_saturated
from teachers import quick_device, small_teacher_in

MODULE = """
import numpy as np

def draw(samples, shape, seed):
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 3, samples)
    inputs = generator.normal(size=(samples, *shape)) + 1.5 * classes.reshape(-1, *[1] * len(shape))
    return inputs.astype("float32"), classes

def targets_of(task, inputs, classes):
    if task == "multi_label":
        return np.stack([classes != 0, classes != 1, inputs.reshape(len(inputs), -1)[:, 0] > 1], axis=1)
    if task == "segmentation":
        masks = np.digitize(inputs[:, 0], [0.5, 2.0])
        masks[:, 0, 0] = 255
        return masks
    return inputs.reshape(len(inputs), -1)[:, :2].astype("float64") * 100 + 7 if task == "regression" else classes

def both(task, shape):
    splits = {"train": draw(240, shape, 0), "test": draw(60, shape, 1)}
    return {name: (inputs, targets_of(task, inputs, classes)) for name, (inputs, classes) in splits.items()}
"""
SHAPES = {"table": (16,), "series": (4, 24), "image": (2, 8, 8)}
KINDS = ("classification", "multi_label", "regression", "segmentation")
MODULE += "".join(
    f"\ndef {kind}_{name}():\n    return both({kind!r}, {shape})\n"
    for kind, (name, shape) in itertools.product(KINDS, SHAPES.items())
)
TEACHERS = {"table": "mlp", "series": "conv1d", "image": "resnet"}
MAPS = ("conv1d", "resnet", "mobilenet")
TEXT = Signature.of_tokens(vocabulary=10, classes=2)
SERIES = replace(TEXT, inputs=(TensorSpec(name="input", dtype="float32", shape=("N", *SHAPES["series"])),))
"""Families of tokens alone are in tests of their own."""

FORMS = ((32, 32), (8, 32), (2, 32), (8, 8))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "task_data.py").write_text(MODULE)
    return folder


@functools.cache
def data_of(home: Path, kind: str, inputs: str) -> Dataset:
    return load_dataset(factory=f"task_data:{kind}_{inputs}", folder=home, task=kind)  # type: ignore[arg-type]


@functools.cache
def context_of(home: Path, kind: str, inputs: str) -> TrialContext:
    data = data_of(home, kind, inputs)
    family = "unet" if kind == "segmentation" else TEACHERS[inputs]
    section = TeacherSection(family=family, epochs=3, learning_rate=5e-3)
    teacher = small_teacher_in(home / kind / inputs, section, data)
    return TrialContext(
        dataset=data,
        teacher=teacher,
        teacher_macs=count_macs(teacher.network, data.train.first(1).inputs),
        target=quick_device(home),
        training=TrainingSection(epochs=2, batch_size=16, learning_rate=5e-3),
        budgets=(),
        device=torch.device("cpu"),
    )


def fits(combination: dict[str, Any]) -> bool:
    """Return True if family, inputs, task and loss go together. Missing values never conflict."""
    kind, family, inputs = (combination.get(name) for name in ("kind", "family", "inputs"))
    if kind is not None and family is not None and (kind == "segmentation") != (family == "unet"):
        return False
    if inputs not in (None, "image") and (kind == "segmentation" or family == "unet"):
        return False
    term = TERMS[combination.get("loss", "task_loss")]
    if isinstance(term, LogitTerm) and kind == "regression":
        return False
    if combination.get("loss") == "teacher_targets" and (kind not in (None, "regression") or family == "unet"):
        return False
    if (
        isinstance(term, FeatureTerm)
        and term.needs == "maps"
        and (family in ("mlp", "vit", "recurrent") or inputs == "table")
    ):
        return False
    if isinstance(term, FeatureTerm) and term.needs in ("tokens", "relations"):
        return False  # between transformers only, in test_matrix.py
    taken = {"mlp": list(SHAPES), "conv1d": ["series"], "recurrent": ["series"]}.get(family or "", ["image"])
    return inputs is None or family is None or inputs in taken


FACTORS = {
    "kind": list(KINDS),
    "inputs": list(SHAPES),
    "family": [name for name, family in FAMILIES.items() if family.fits(SERIES) or not family.fits(TEXT)],
    "loss": [name for name, term in TERMS.items() if getattr(term, "needs", "") not in ("tokens", "relations")],
    "bits": list(FORMS),
    "pruning": [(0.0, "uniform"), (0.5, "l1"), (0.5, "taylor")],
}
COMBINATIONS = pairwise(FACTORS, fits)
FEW = pairwise(FACTORS, fits, {("family", "loss"), ("loss", "bits"), ("loss", "pruning")})
"""Every loss with every task; test_matrix.py has the other pairs of losses for classes."""


def name_of(combination: dict[str, Any]) -> str:
    return " ".join(map(str, combination.values()))


@pytest.mark.parametrize(
    "combination",
    [*FEW, *(pytest.param(each, marks=pytest.mark.slow) for each in COMBINATIONS if each not in FEW)],
    ids=name_of,
)
def test_it_trains_ships_and_is_measured(combination: dict[str, Any], home: Path, tmp_path: Path) -> None:
    context = context_of(home, combination["kind"], combination["inputs"])
    (weight_bits, activation_bits), (ratio, criterion) = combination["bits"], combination["pruning"]
    names = dict.fromkeys(["task_loss", combination["loss"]])
    candidate = Candidate(
        family=combination["family"],
        depths=(1,) * len(FAMILIES[combination["family"]].base_depths),
        width_multiplier=0.25,
        pruning_ratio=ratio,
        pruning_criterion=criterion,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        losses=tuple(LossTerm(name=name) for name in names),
    )
    outcome = run_trial(candidate, context, seed=0, model=tmp_path / "model.onnx")
    skip_if_saturated(outcome)
    assert outcome.state == "trained", outcome.reason
    assert outcome.measured is not None and set(outcome.losses) == set(names)
    for metric in context.dataset.task.metrics:
        METRICS[metric].require(outcome.measured.figure(metric))
    assert outcome.measured.figures["size_bytes"] == (tmp_path / "model.onnx").stat().st_size


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "segmentation"])
def test_a_table_is_learned(kind: str, home: Path, tmp_path: Path) -> None:
    context = context_of(home, kind, "table")
    longer = TrainingSection(epochs=40, batch_size=16, learning_rate=1e-2)
    candidate = Candidate(family="mlp", depths=(1,), losses=(LossTerm(name="task_loss"),))
    learned = run_trial(candidate, replace(context, training=longer), seed=0, model=tmp_path / "model.onnx")
    assert learned.measured is not None
    assert learned.measured.figure(context.dataset.task.metrics[0]) > 0.85


def test_a_files_numbers_have_the_units_of_the_targets(home: Path, tmp_path: Path) -> None:
    context = context_of(home, "regression", "table")
    candidate = Candidate(family="mlp", depths=(1,), losses=(LossTerm(name="task_loss"),))
    run_trial(candidate, context, seed=0, model=tmp_path / "model.onnx")
    inputs, targets = context.dataset.validation.inputs["input"], context.dataset.validation.targets["targets"]
    np.save(tmp_path / "inputs.npy", inputs.numpy())
    code = (
        "import json, numpy, onnxruntime; session = onnxruntime.InferenceSession('model.onnx'); "
        "print(json.dumps(session.run(None, {'input': numpy.load('inputs.npy')})[0].tolist()))"
    )
    answers = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = torch.tensor(json.loads(answers.stdout))
    assert found.mean().item() == pytest.approx(targets.mean().item(), abs=50)
    assert 0.3 < (found.std() / targets.std()).item() < 2
