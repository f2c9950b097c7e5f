"""Recurrent students over tokens, from a recurrent teacher, through whole trials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_compress.config.schema import TrainingSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError
from nas_compress.measurement.predictions import predict
from nas_compress.models.macs import count_macs
from nas_compress.tasks.batch import to_arrays
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate, LossTerm, Quantization
from nas_compress.values.family_settings import EncoderSettings, RecurrentSettings
from processors import skip_if_saturated
from teachers import quick_device, small_teacher_in

MODULE = '''
import numpy as np

from nas_compress.tasks.classification import Classification
from nas_compress.values.signature import token_input


def split(samples):
    """Sentences of 3 to 9 tokens; the class says which of the tokens 2 and 3 is the later one."""
    generator = np.random.default_rng(samples)
    ids = generator.integers(4, 12, (samples, 9), dtype="int32")
    lengths, classes = generator.integers(3, 10, samples), generator.integers(0, 2, samples)
    for row, (length, label) in enumerate(zip(lengths, classes)):
        first, second = sorted(generator.choice(length, 2, replace=False))
        ids[row, [first, second]] = (3, 2) if label else (2, 3)
        ids[row, length:] = 0
    return {"input": ids}, {"label": classes.astype("int64")}


def load():
    return {"task": Classification(inputs=(token_input(12),), classes=2), "train": split(600), "test": split(60)}
'''


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    home = tmp_path_factory.mktemp("recurrent")
    (home / "orders.py").write_text(MODULE)
    data = load_dataset(factory="orders:load", folder=home)
    section = TeacherSection(
        family="recurrent", widths=(16,), depths=(1,), epochs=3, learning_rate=1e-2,
        settings=RecurrentSettings(embedding_width=8),
    )  # fmt: skip
    teacher = small_teacher_in(home, section, data)
    return TrialContext(
        dataset=data,
        teacher=teacher,
        teacher_macs=count_macs(teacher.network, data.train.first(1).inputs),
        target=quick_device(home),
        training=TrainingSection(epochs=4, batch_size=16, learning_rate=1e-2),
        budgets=(),
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize(
    ("cell", "pooling", "bits", "method", "loss"),
    [
        ("lstm", "max", (32, 32), "calibrate", "kd"),
        ("gru", "last", (3, 32), "lsq", "task_loss"),
        ("rnn", "mean", (8, 32), "calibrate", "rkd_distance"),
        ("lstm", "last", (4, 8), "lsq", "kd"),
    ],
)
def test_a_student_learns_ships_and_agrees(
    cell: str, pooling: str, bits: tuple[int, int], method: str, loss: str, context: TrialContext, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    candidate = Candidate(
        family="recurrent",
        depths=(2 if cell == "rnn" else 1,),
        settings=RecurrentSettings(cell=cell, pooling=pooling, embedding_width=8),
        width_multiplier=1.0,
        weight_bits=bits[0],
        activation_bits=bits[1],
        quantization=Quantization(method=method, end_bits=6),
        losses=tuple(LossTerm(name=name) for name in dict.fromkeys(["task_loss", loss])),
    )
    outcome = run_trial(candidate, context, seed=0, model=path)
    skip_if_saturated(outcome)
    assert outcome.state == "trained" and outcome.measured is not None, outcome.reason
    assert outcome.measured.max_difference is not None
    assert outcome.measured.max_difference < (1e-5 if bits[1] == 32 else 0.1)
    validation = context.dataset.validation
    found = predict(path, to_arrays(validation.inputs))["logits"].argmax(axis=1)
    accuracy = float((found == validation.targets["label"].numpy()).mean())
    assert outcome.measured.figures["accuracy"] == accuracy > 0.7


@pytest.mark.parametrize("loss", ["kd", "similarity_preserving"])
def test_a_recurrent_student_learns_from_an_encoder(loss: str, context: TrialContext, tmp_path: Path) -> None:
    section = TeacherSection(
        family="encoder", widths=(16,), depths=(1,), epochs=2, learning_rate=1e-2, settings=EncoderSettings(heads=2)
    )
    teacher = small_teacher_in(tmp_path, section, context.dataset)
    candidate = Candidate(
        family="recurrent",
        depths=(1,),
        settings=RecurrentSettings(cell="gru", embedding_width=8),
        width_multiplier=0.25,
        losses=(LossTerm(name="task_loss"), LossTerm(name=loss)),
    )
    short = context.training.model_copy(update={"epochs": 1})
    taught = replace(context, teacher=teacher, training=short)
    outcome = run_trial(candidate, taught, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained" and set(outcome.losses) == {"task_loss", loss}, outcome.reason


@pytest.mark.parametrize(
    ("values", "wanted"), [({"pruning_ratio": 0.5}, "pruning_ratio=0.5"), ({"init": "inherit"}, "init='inherit'")]
)
def test_the_widths_of_a_recurrent_teacher_are_not_ranked(
    values: dict[str, Any], wanted: str, context: TrialContext
) -> None:
    candidate = Candidate(family="recurrent", depths=(1,), losses=(LossTerm(name="task_loss"),), **values)
    with pytest.raises(RequestError) as caught:
        candidate_rules(context, seed=0).require(candidate)
    assert str(caught.value) == (
        f"the teacher must have channels to rank, but got {wanted} with a teacher of family 'recurrent'; "
        "width_multiplier makes its students narrower"
    )


def test_integer_states_of_other_cells_are_refused(context: TrialContext) -> None:
    candidate = Candidate(
        family="recurrent", depths=(1,), settings=RecurrentSettings(cell="gru"), weight_bits=8, activation_bits=8,
        losses=(LossTerm(name="task_loss"),),
    )  # fmt: skip
    with pytest.raises(RequestError, match="activation_bits of a recurrent network must be 32, or 8 with cell='lstm'"):
        candidate_rules(context, seed=0).require(candidate)
