"""Small encoders of tokens, padded sentences of several lengths for them, and trials on made sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from nas_compress.config.schema import TrainingSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.load_dataset import load_dataset
from nas_compress.export.onnx_file import export_onnx
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.models.macs import count_macs
from nas_compress.models.networks.encoder import TokenEncoder
from nas_compress.trial.context import TrialContext
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.family_settings import EncoderSettings
from nas_compress.values.signature import Signature
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

LENGTHS = (11, 1, 4, 7, 11)
TEXT = Signature.of_tokens(vocabulary=50, classes=3)


def encoder(*, depth: int = 2, width: int = 12, **settings: object) -> TokenEncoder:
    """An untrained encoder with three heads, unless the settings say otherwise."""
    family, chosen = FAMILIES["encoder"], EncoderSettings(**{"heads": 3, **settings})  # type: ignore[arg-type]
    layers = [each for each in family.layers((depth,), (width,), chosen) if not family.repeats(each[0], chosen)]
    widths = tuple(Width(layer=layer, asked=0.0, channels=channels) for layer, channels in layers)
    torch.manual_seed(0)
    network = build_student(
        Architecture(family="encoder", signature=TEXT, depths=(depth,), widths=widths, settings=chosen)
    )
    assert isinstance(network, TokenEncoder)
    return network.eval()


def sentences() -> Tensor:
    """Five padded sentences of the lengths above."""
    drawn = torch.randint(1, 50, (len(LENGTHS), max(LENGTHS)), dtype=torch.int32, generator=torch.manual_seed(1))
    for row, length in enumerate(LENGTHS):
        drawn[row, length:] = 0
    return drawn


class File:
    """The exported file of a network of tokens, called like the network."""

    def __init__(self, network: nn.Module, path: Path, signature: Signature = TEXT) -> None:
        export_onnx(network, signature, path)
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, samples: Tensor) -> np.ndarray:
        return self.session.run(None, {"input": samples.numpy()})[0]  # type: ignore[no-any-return]


def words_context(home: Path) -> TrialContext:
    """Trials on the sentences of WORDS, with a small encoder as the teacher. home: keeps the teacher."""
    (home / "words.py").write_text(WORDS)
    data = load_dataset(factory="words:load", folder=home)
    section = TeacherSection(
        family="encoder", widths=(16,), depths=(2,), epochs=4, learning_rate=1e-2, settings=EncoderSettings(heads=2)
    )
    teacher = small_teacher_in(home, section, data)
    return TrialContext(
        dataset=data,
        teacher=teacher,
        teacher_macs=count_macs(teacher.network, data.train.first(1).inputs),
        target=quick_device(home),
        training=TrainingSection(epochs=3, batch_size=16, learning_rate=1e-2),
        budgets=(),
        device=torch.device("cpu"),
    )
