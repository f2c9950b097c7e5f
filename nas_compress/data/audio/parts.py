"""Splits of a folder of sounds: its own ones, or drawn for each class or by speaker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_compress.callbacks import Notice, Progress
from nas_compress.data.assemble import Parts, Samples, subset
from nas_compress.data.audio.wave_files import SOUNDS, SoundSource, header, part_of_name
from nas_compress.data.augment.protocol import NoAugmentation
from nas_compress.data.store.class_folders import ClassFolders, divided, require_samples, stored_splits
from nas_compress.data.stratified_split import validation_and_train_of_groups
from nas_compress.errors import RequestError, refusal
from nas_compress.tasks.classification import LABEL, Classification
from nas_compress.values.audio.log_mel import LogMel
from nas_compress.values.file_constants import INPUT_NAME
from nas_compress.values.signature import BATCH, TensorSpec

DEFAULT_BANDS = 32
"""Mel bands if the study names no number."""

LONGEST_S = 60.0
"""Seconds of the longest sound."""


@dataclass(frozen=True, kw_only=True)
class SoundSettings:
    """How files become sounds of one length. None: the defaults.

    seconds: length of a sound; by default that of the longest file. bands: of the mel spectrogram, by default 32.
    speaker_part: part of a file's name, from 1, between underscores, that names its speaker; None: speakers are not
    known.
    """

    seconds: float | None = None
    bands: int | None = None
    speaker_part: int | None = None


def read_sounds(
    folder: ClassFolders,
    *,
    name: str,
    settings: SoundSettings,
    seed: int,
    where: str,
    progress: Progress,
    notice: Notice,
) -> Parts:
    """Return the sounds as int16 (N, samples) with their classes, read once into a store.

    seed: of the division if there are no folders of splits. A drawn split has whole speakers only, if they are known.
    RequestError with the name of a file that cannot be used.
    """
    rate, length = _rate_and_length(folder.root, folder.files, settings.seconds, where)
    try:
        log_mel = LogMel.at_rate(rate, bands=settings.bands or DEFAULT_BANDS)
        spec = TensorSpec(name=INPUT_NAME, dtype="int16", shape=(BATCH, length), log_mel=log_mel)
    except RequestError as error:
        raise refusal(str(error), where) from error
    source = SoundSource(
        root=str(folder.root), files=folder.files, labels=folder.labels, length=length, rate=rate, where=where
    )
    given = stored_splits(
        folder,
        source,
        key=source.identity(folder.states)[:16],
        name="sounds",
        kind=".wav files",
        where=where,
        progress=progress,
        notice=notice,
    )
    speakers: dict[str, NDArray[np.str_]] = {}
    if settings.speaker_part is not None:
        for split, listing in folder.splits.items():
            speakers[split] = np.array([part_of_name(file, settings.speaker_part, where) for file in listing.files])
    samples = _by_speaker(given, speakers, seed=seed, where=where) if speakers else divided(given, seed=seed)
    require_samples(samples, folder.class_names, where, SOUNDS)
    classes = folder.class_names
    return Parts(
        name=name,
        task=Classification(inputs=(spec,), classes=len(classes), class_names=classes),
        train=samples["train"],
        validation=samples["validation"],
        test=samples["test"],
        numeric=(INPUT_NAME,),
        augmentation=NoAugmentation(),
    )


def _rate_and_length(root: Path, files: Sequence[str], seconds: float | None, where: str) -> tuple[int, int]:
    """Return the rate of the first file, and the samples of `seconds` or of the longest file."""
    rate, _ = header(root, files[0], where)
    if seconds is not None:
        return rate, max(1, round(seconds * rate))
    longest, name = max((header(root, file, where)[1], file) for file in files)
    if longest > LONGEST_S * rate:
        rule = f"the longest sound must have {LONGEST_S:g} seconds or fewer"
        raise refusal(f"{rule}, but {name} has {longest / rate:.1f}; set seconds, by which longer ones are cut", where)
    return rate, longest


def _by_speaker(
    given: Mapping[str, Samples], speakers: Mapping[str, NDArray[np.str_]], *, seed: int, where: str
) -> dict[str, Samples]:
    """Return all three splits; missing ones are drawn from the training samples by whole speakers."""
    for first, second in combinations(speakers, 2):
        both = np.intersect1d(speakers[first], speakers[second])
        if len(both):
            rule = "a speaker must be in one split"
            raise refusal(f"{rule}, but {both[0]} is in {first} and {second} ({len(both)} such speakers)", where)
    samples, left = dict(given), speakers["train"]
    missing = [split for split in ("test", "validation") if split not in given]
    if missing and len(np.unique(left)) < 1 + len(missing):
        rule = f"there must be {1 + len(missing)} speakers or more to draw {' and '.join(missing)}"
        raise refusal(f"{rule}, but got {', '.join(np.unique(left))}; leave speaker_part out", where)
    for split in missing:
        drawn, rest = validation_and_train_of_groups(samples["train"][1][LABEL], left, seed=seed)
        samples |= {split: subset(samples["train"], drawn), "train": subset(samples["train"], rest)}
        left = left[rest]
    return samples
