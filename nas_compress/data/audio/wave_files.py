"""Sounds in .wav files of 16 bits, read by the standard library. This file imports no framework."""

from __future__ import annotations

import hashlib
import wave
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_compress.data.store.pictures import ENDINGS, FileKind, files_below
from nas_compress.data.store.source import Pair
from nas_compress.errors import describe, refusal

SOUNDS = FileKind(singular="sound", plural="sounds (.wav)", endings=frozenset((".wav", ".wave")))

OTHERS = frozenset((".aac", ".aif", ".aiff", ".au", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wma"))
"""Endings of sounds that are not read."""

RECIPE = 1
"""Number of the way from a file to samples; another one reads all sounds again."""

CONVERT = "ffmpeg -i IN -ac 1 -ar {rate} -c:a pcm_s16le OUT.wav"
"""Command that makes a file that can be read."""


def holds_sounds(folder: Path, where: str) -> bool:
    """Return True if the first sound or picture in a folder is a sound, in the order of their names.

    RequestError for sounds of other kinds than .wav.
    """
    for path in files_below(folder):
        ending = path.suffix.lower()
        if ending in OTHERS:
            way = CONVERT.format(rate=16_000)
            raise refusal(f"sounds must be .wav files of 16 bits, but got {path}; convert them, as by {way}", where)
        if ending in SOUNDS.endings | ENDINGS:
            return ending in SOUNDS.endings
    return False


def header(root: Path, file: str, where: str) -> tuple[int, int]:
    """Return the sampling rate and the number of samples of a file.

    RequestError with the file's name if it is broken, has several channels or no 16-bit samples.
    """
    try:
        with closing(wave.open(str(root / file), "rb")) as sound:
            channels, width = sound.getnchannels(), sound.getsampwidth()
            rate, samples = sound.getframerate(), sound.getnframes()
    except (OSError, EOFError, wave.Error) as error:
        raise _broken(file, error, where) from error
    if channels != 1 or width != 2:
        found = f"{channels} channels of {8 * width} bits"
        way = CONVERT.format(rate=rate)
        raise refusal(f"a sound must have 1 channel of 16 bits, but {file} has {found}; convert it, as by {way}", where)
    return rate, samples


def samples_of(root: Path, file: str, *, length: int, rate: int, where: str) -> NDArray[np.int16]:
    """Return the first `length` samples of a sound; a shorter one ends in silence, zeros.

    RequestError with the file's name if it is broken, has no samples or another sampling rate.
    """
    found, samples = header(root, file, where)
    if found != rate:
        way = CONVERT.format(rate=rate)
        rule = f"all sounds must have one sampling rate, {rate} as the first"
        raise refusal(f"{rule}, but {file} has {found}; convert it, as by {way}", where)
    if not samples:
        raise refusal(f"a sound must have samples, but {file} has none; remove it", where)
    try:
        with closing(wave.open(str(root / file), "rb")) as sound:
            content = sound.readframes(min(samples, length))
    except (OSError, EOFError, wave.Error) as error:
        raise _broken(file, error, where) from error
    whole = np.frombuffer(content[: len(content) // 2 * 2], dtype="<i2")
    if len(whole) < min(samples, length):
        found_samples = f"it ends after {len(whole)} of {samples} samples"
        raise refusal(f"every sound must be readable, but {file} is not: {found_samples}; replace it", where)
    padded = np.zeros(length, dtype=np.int16)
    padded[: len(whole)] = whole
    return padded


def part_of_name(file: str, part: int, where: str) -> str:
    """Return a part of a file's name, from 1, between underscores.

    >>> part_of_name("7/7_jackson_32.wav", 2, "")
    'jackson'
    """
    parts = Path(file).stem.split("_")
    if part > len(parts):
        rule = f"speaker_part <= {len(parts)} (parts of the name between _) must hold for {file}"
        raise refusal(f"{rule}, but got speaker_part={part}", where)
    return parts[part - 1]


@dataclass(frozen=True, kw_only=True)
class SoundSource:
    """Sounds of one length and rate, with the number of their class.

    root: of the files. labels: number of the class of each file. length: samples of a sound. rate: per second.
    """

    root: str
    files: tuple[str, ...]
    labels: tuple[int, ...]
    length: int
    rate: int
    where: str

    def open(self) -> SoundReader:
        """Return a reader."""
        return SoundReader(self)

    def identity(self, states: Sequence[str]) -> str:
        """Return the digest of names, labels and states of the files and of the way to samples."""
        digest = hashlib.sha256(f"sounds {RECIPE} {self.length} {self.rate}\n".encode())
        for file, label, state in zip(self.files, self.labels, states, strict=True):
            digest.update(f"{file} {label} {state}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


class SoundReader:
    """Samples int16 (length,) and labels."""

    def __init__(self, source: SoundSource) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source.files)

    def read(self, index: int) -> Pair:
        """Return a sound and its label; RequestError with the name of a broken file."""
        source = self._source
        samples = samples_of(
            Path(source.root), source.files[index], length=source.length, rate=source.rate, where=source.where
        )
        return samples, np.asarray(source.labels[index], dtype=np.int64)


def _broken(file: str, error: Exception, where: str) -> Exception:
    why = "it ends early" if isinstance(error, EOFError) else describe(error)
    way = CONVERT.format(rate=16_000)
    return refusal(f"every sound must be a .wav file of 16 bits, but {file} is not: {why}; try {way}", where)
