"""Every kind of teaching trains students of token ids, of one task and of several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from made_contexts import context_on
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.load_dataset import load_dataset
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate, LossTerm, Quantization, Teaching
from nas_compress.values.family_settings import EncoderSettings
from nas_compress.values.teaching import TEACHERS

WITHOUT_PRETRAINED = [kind for kind in TEACHERS if kind != "task_agnostic"]
"""A task-agnostic student needs an encoder of Hugging Face: tests/trial/test_task_agnostic.py."""

MODULE = '''
import numpy as np

from nas_compress.tasks.classification import Classification
from nas_compress.tasks.regression import Regression
from nas_compress.tasks.several import SeveralTasks
from nas_compress.values.signature import token_input

INPUTS = (token_input(12),)


def split(samples):
    """Sentences of 3 to 9 tokens; the class is that of the token 2 or 3 in them, the number their length."""
    generator = np.random.default_rng(samples)
    ids = generator.integers(4, 12, (samples, 9), dtype="int32")
    lengths, classes = generator.integers(3, 10, samples), generator.integers(0, 2, samples)
    for row, (length, label) in enumerate(zip(lengths, classes)):
        ids[row, generator.integers(length)] = 2 + label
        ids[row, length:] = 0
    return ids, classes.astype("int64"), lengths.astype("float32")[:, None]


def one(samples):
    ids, classes, _ = split(samples)
    return {"input": ids}, {"label": classes}


def two(samples):
    ids, classes, lengths = split(samples)
    classes[: samples // 4], lengths[samples // 2 :] = -1, np.nan
    return {"input": ids}, {"label_kind": classes, "targets_length": lengths}


def load():
    return {"task": Classification(inputs=INPUTS, classes=2), "train": one(96), "validation": one(40)}


def load_two():
    parts = (
        ("kind", Classification(inputs=INPUTS, classes=2, lacks_labels=True)),
        ("length", Regression(inputs=INPUTS, mean=(6.0,), std=(2.0,), lacks_labels=True)),
    )
    return {"task": SeveralTasks(parts=parts), "train": two(96), "validation": two(40)}
'''

LOSSES = (LossTerm(name="task_loss"), LossTerm(name="kd", settings={"temperature": 2.0}))
ENCODER = Candidate(family="encoder", depths=(1,), heads=2, losses=LOSSES)


def context_of(function: str, home: Path) -> TrialContext:
    (home / f"words_{function}.py").write_text(MODULE)
    data = load_dataset(factory=f"words_{function}:{function}", folder=home)
    section = TeacherSection(
        family="encoder", widths=(16,), depths=(1,), epochs=2, learning_rate=1e-2, settings=EncoderSettings(heads=2)
    )
    return context_on(data, home, section, epochs=1)


@pytest.fixture(scope="module")
def one_task(tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    return context_of("load", tmp_path_factory.mktemp("one-task"))


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    return context_of("load_two", tmp_path_factory.mktemp("two-tasks"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path_factory.getbasetemp() / "sequences-cache"))


def taught(kind: str, candidate: Candidate) -> Candidate:
    if kind == "apprentice":
        candidate = replace(candidate, weight_bits=8, quantization=Quantization(method="lsq"))
    folds = 2 if kind == "out_of_fold" else None
    return replace(candidate, teaching=Teaching(teacher=kind, folds=folds))


@pytest.mark.parametrize("kind", [kind for kind in WITHOUT_PRETRAINED if kind != "single_tasks"])
def test_an_encoder_learns_from_every_kind_of_teacher(kind: str, one_task: TrialContext, tmp_path: Path) -> None:
    outcome = run_trial(taught(kind, ENCODER), one_task, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    assert outcome.losses["kd"] > 0


@pytest.mark.parametrize("kind", WITHOUT_PRETRAINED)
def test_an_encoder_of_two_tasks_learns_from_every_kind_of_teacher(
    kind: str, two_tasks: TrialContext, tmp_path: Path
) -> None:
    outcome = run_trial(taught(kind, ENCODER), two_tasks, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    assert outcome.measured is not None and {"accuracy@kind", "r2@length"} <= outcome.measured.figures.keys()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["text_bag", "text_cnn", "recurrent"])
@pytest.mark.parametrize("kind", [kind for kind in WITHOUT_PRETRAINED if kind not in ("single_tasks", "apprentice")])
def test_other_families_of_tokens_learn_too(kind: str, family: str, one_task: TrialContext, tmp_path: Path) -> None:
    candidate = Candidate(family=family, depths=(1,), losses=LOSSES)
    outcome = run_trial(taught(kind, candidate), one_task, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
