"""Japanese Vowels (Kudo et al. 1999): 640 utterances of 9 speakers as series of 12 channels and 7 to 29 steps.

The files lie in the package aeon, which need not be imported: `pip install --no-deps aeon==1.6.0`.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import RequestError

NAME = "JapaneseVowels"
STEPS = 29
"""Steps of the longest utterance; others are padded with zeros behind their end."""

Samples = tuple[NDArray[np.float32], NDArray[np.int64]]


def load() -> dict[str, Samples]:
    """Return the 270 training series, and the two halves of the 370 test series as validation and test."""
    folder = _folder()
    inputs, speakers = read_series((folder / f"{NAME}_TEST.ts").read_text(encoding="utf-8"))
    halves = np.empty(len(speakers), dtype=bool)  # every second utterance of each speaker
    for speaker in np.unique(speakers):
        halves[speakers == speaker] = np.arange((speakers == speaker).sum()) % 2 == 0
    return {
        "train": read_series((folder / f"{NAME}_TRAIN.ts").read_text(encoding="utf-8")),
        "validation": (inputs[halves], speakers[halves]),
        "test": (inputs[~halves], speakers[~halves]),
    }


def read_series(text: str) -> Samples:
    """Return padded series (N, 12, STEPS) and speakers from 0 (N,). A line has channels and a class behind colons."""
    inputs, speakers = [], []
    for line in text[text.index("@data") :].splitlines()[1:]:
        *channels, speaker = line.split(":")
        values = np.array([np.fromstring(channel, sep=",", dtype=np.float32) for channel in channels])
        inputs.append(np.pad(values, ((0, 0), (0, STEPS - values.shape[1]))))
        speakers.append(int(speaker) - 1)
    return np.stack(inputs), np.array(speakers)


def _folder() -> Path:
    """Return the folder of the files: `$NAS_COMPRESS_DATA/JapaneseVowels`, or that of aeon."""
    package = find_spec("aeon")
    places = [Path(os.environ["NAS_COMPRESS_DATA"]) / NAME] if "NAS_COMPRESS_DATA" in os.environ else []
    if package is not None and package.origin is not None:
        places.append(Path(package.origin).parent / "datasets" / "data" / NAME)
    for place in places:
        if (place / f"{NAME}_TRAIN.ts").is_file():
            return place
    raise RequestError(
        f"{NAME}_TRAIN.ts must lie in the package aeon or in $NAS_COMPRESS_DATA/{NAME}, but got neither; "
        "pip install --no-deps aeon==1.6.0"
    )
