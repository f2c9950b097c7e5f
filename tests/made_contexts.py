"""Trials on made sentences and made series, with small teachers that are really trained."""

from __future__ import annotations

from pathlib import Path

import torch

from nas_compress.config.schema import TrainingSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.models.macs import count_macs
from nas_compress.trial.context import TrialContext
from nas_compress.values.family_settings import EncoderSettings
from teachers import quick_device, small_teacher_in

WORDS = '''
import numpy as np

from nas_compress.tasks.classification import Classification
from nas_compress.values.signature import token_input


def split(samples):
    """Sentences of 3 to 9 tokens; the class says which of the tokens 2 and 3 is in it."""
    generator = np.random.default_rng(samples)
    ids = generator.integers(4, 12, (samples, 9), dtype="int32")
    lengths, classes = generator.integers(3, 10, samples), generator.integers(0, 2, samples)
    for row, (length, label) in enumerate(zip(lengths, classes)):
        ids[row, generator.integers(length)] = 2 + label
        ids[row, length:] = 0
    return {"input": ids}, {"label": classes.astype("int64")}


def load():
    return {"task": Classification(inputs=(token_input(12),), classes=2), "train": split(320), "test": split(60)}
'''
"""Code of a data set of sentences, as a user writes it."""

SERIES = '''
import numpy as np


def split(samples):
    """Series of 4 channels and 24 steps around one of three levels."""
    generator = np.random.default_rng(samples)
    classes = generator.integers(0, 3, samples)
    return (generator.normal(size=(samples, 4, 24)) + classes[:, None, None]).astype("float32"), classes


def load():
    return {"train": split(240), "test": split(60)}
'''


def words_context(home: Path) -> TrialContext:
    """Trials on the sentences of WORDS, with a small encoder as the teacher. home: keeps the teacher."""
    section = TeacherSection(
        family="encoder", widths=(16,), depths=(2,), epochs=4, learning_rate=1e-2, settings=EncoderSettings(heads=2)
    )
    return _context(home, WORDS, section)


def series_context(home: Path) -> TrialContext:
    """Trials on the series of SERIES, with a small teacher of convolutions. home: keeps the teacher."""
    section = TeacherSection(family="conv1d", widths=(8, 16, 16), epochs=2, learning_rate=1e-2)
    return _context(home, SERIES, section)


def _context(home: Path, code: str, section: TeacherSection) -> TrialContext:
    (home / "made.py").write_text(code)
    return context_on(load_dataset(factory="made:load", folder=home), home, section, epochs=3)


def context_on(data: Dataset, home: Path, section: TeacherSection, *, epochs: int) -> TrialContext:
    """Trials of `epochs` on data with a small teacher. home: keeps the teacher."""
    teacher = small_teacher_in(home, section, data)
    return TrialContext(
        dataset=data,
        teacher=teacher,
        teacher_macs=count_macs(teacher.network, data.train.first(1).inputs),
        target=quick_device(home),
        training=TrainingSection(epochs=epochs, batch_size=16, learning_rate=1e-2),
        budgets=(),
        device=torch.device("cpu"),
    )
