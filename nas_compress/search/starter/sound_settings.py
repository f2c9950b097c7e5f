"""Settings of a folder of sounds, guessed from lengths and names of its files."""

from __future__ import annotations

import math

from nas_compress.data.audio.parts import DEFAULT_BANDS, SoundSettings
from nas_compress.data.audio.wave_files import SOUNDS, header
from nas_compress.data.store.class_folders import find_folder
from nas_compress.search.starter.templates import OF_SOUNDS, OF_SPEAKERS

PROBED = 500
"""Files that are looked at."""

SHARE = 0.95
"""Share of the sounds that are not cut."""

TENTHS = 10
"""Parts of a second to which the length is rounded up."""

PARTS = 3
"""Parts of names such as 0_jackson_1.wav: class, speaker and number."""

LEAST_SPEAKERS = 3
"""Speakers of which each of three splits has one."""


def guessed_sounds(folder: str) -> SoundSettings:
    """Return a length that most sounds do not exceed, and the part of the names that names the speaker.

    Speakers are known if all names have the form class_speaker_number, with three speakers or more.
    RequestError in one line if a file cannot be used.
    """
    found = find_folder(folder, base=None, where="--data", kind=SOUNDS)
    files = [file for split in found.splits.values() for file in split.files[:PROBED]]
    lengths = sorted(samples / rate for rate, samples in (header(found.root, file, "--data") for file in files))
    seconds = lengths[math.ceil(SHARE * len(lengths)) - 1]
    return SoundSettings(
        seconds=max(1, math.ceil(round(seconds * TENTHS, 6))) / TENTHS,
        speaker_part=2 if len(found.splits) == 1 and _have_speakers(files) else None,
    )


def sounds_text(path: str, settings: SoundSettings, folder: str) -> str:
    """Return the lines of `[data]`. path: of the folder, as a string of TOML. folder: where it is."""
    text = OF_SOUNDS.format(folder=path, seconds=settings.seconds, mels=settings.bands or DEFAULT_BANDS)
    if settings.speaker_part is None:
        return text
    first = find_folder(folder, base=None, where="--data", kind=SOUNDS).splits["train"].files[0]
    return text + OF_SPEAKERS.format(part=settings.speaker_part, name=first.rpartition("/")[2])


def _have_speakers(files: list[str]) -> bool:
    parts = [file.rpartition("/")[2].rpartition(".")[0].split("_") for file in files]
    if any(len(each) != PARTS or not each[2].isdecimal() or each[1].isdecimal() for each in parts):
        return False
    return LEAST_SPEAKERS <= len({each[1] for each in parts}) <= len(files) / 2
