"""Data, networks and exits of the comparisons in `compare.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nas_compress.config.schema import DataSection, TrainingSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.values.candidate import Candidate


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Data, and networks by name.

    networks: `large` is the name of the one with exits; the others have none. places: of the exits. fits: trainings of
    the exits by their names in FITS. teacher: it gives the widths and is otherwise unused.
    """

    data: DataSection
    teacher: TeacherSection
    training: TrainingSection
    networks: Mapping[str, Candidate]
    large: str
    places: tuple[str, ...]
    fits: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Training of exits. joint: together with the network. confidences: of which the first is timed."""

    confidences: tuple[str, ...]
    target: str = "labels"
    joint: bool = False


FITS = {
    "frozen": Fit(confidences=("max_probability", "entropy", "margin")),
    "frozen, hinge": Fit(confidences=("hinge",)),
    "frozen, distilled": Fit(confidences=("max_probability",), target="last_exit"),
    "joint": Fit(confidences=("max_probability",), joint=True),
}


def _resnet(*depths: int, width: float, stride: int) -> Candidate:
    return Candidate(family="resnet", depths=depths, width_multiplier=width, stem_stride=stride, round_to=16)


def _encoder(layers: int) -> Candidate:
    return Candidate(family="encoder", depths=(layers,))


IMAGES = {
    "1, 1, 2 blocks": (1, 1, 2, 1.0),
    "1, 1, 1 blocks": (1, 1, 1, 1.0),
    "1, 1, 1 blocks, 3/4 as wide": (1, 1, 1, 0.75),
    "1, 1, 1 blocks, 5/8 as wide": (1, 1, 1, 0.625),
    "1, 1, 1 blocks, half as wide": (1, 1, 1, 0.5),
}
"""Blocks of three stages, and the width multiplier. The first stage has 16 channels, so that it takes little time."""

SMALLEST = {"1, 1, 1 blocks, a quarter as wide": (1, 1, 1, 0.25)}
"""A network for digits that takes no more time than their exits."""

SETTINGS = {
    "digits": Setting(
        data=DataSection(name="digits"),
        teacher=TeacherSection(family="resnet", widths=(16, 64, 128), depths=(1, 1, 1), epochs=1, learning_rate=0.01),
        training=TrainingSection(epochs=8, batch_size=32, learning_rate=0.01),
        networks={name: _resnet(*shape[:3], width=shape[3], stride=1) for name, shape in (IMAGES | SMALLEST).items()},
        large="1, 1, 2 blocks",
        places=("stage0", "stage1"),
        fits=tuple(FITS),
    ),
    "fashion-mnist": Setting(
        data=DataSection(name="fashion-mnist", train_samples=20_000),
        teacher=TeacherSection(family="resnet", widths=(16, 64, 128), depths=(1, 1, 1), epochs=1, learning_rate=0.01),
        training=TrainingSection(epochs=8, batch_size=64, learning_rate=0.01),
        networks={name: _resnet(*shape[:3], width=shape[3], stride=2) for name, shape in IMAGES.items()},
        large="1, 1, 2 blocks",
        places=("stage0", "stage1"),
        fits=tuple(FITS),
    ),
    "ag-news": Setting(
        data=DataSection(
            text="ag-news/test.csv",
            text_column=(2, 3),
            label_column=1,
            test_share=0.2,
            vocabulary=4_000,
            max_tokens=32,
        ),
        teacher=TeacherSection(family="encoder", widths=(48,), depths=(1,), epochs=1, learning_rate=0.002),
        training=TrainingSection(epochs=3, batch_size=32, learning_rate=0.002),
        networks={
            "3 layers": _encoder(3),
            "2 layers": _encoder(2),
            "1 layer": _encoder(1),
            "bag of word pieces": Candidate(family="text_bag", depths=(1,)),
        },
        large="3 layers",
        places=("layer0", "layer1"),
        fits=tuple(FITS),
    ),
}
