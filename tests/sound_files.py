"""Folders of short .wav files, made for tests."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_wave(path: Path, samples: NDArray[np.int16], *, rate: int = 8_000, channels: int = 1, width: int = 2) -> Path:
    """Write a .wav file. width: bytes of a sample."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def tone(frequency: float, seconds: float, *, rate: int = 8_000, seed: int = 0) -> NDArray[np.int16]:
    """Return a sine with a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 300, len(time))
    return (8_000 * np.sin(2 * np.pi * frequency * time) + noise).round().astype(np.int16)


def write_tones(
    folder: Path, *, each: int = 20, speakers: tuple[str, ...] = ("ann", "ben", "cat", "dan"), seconds: float = 0.2
) -> Path:
    """Write low and high tones as `low/0_ann_3.wav`: class, speaker, number; the speakers in turn."""
    for label, (name, frequency) in enumerate((("low", 400.0), ("high", 2_000.0))):
        for number in range(each):
            pitch = frequency * (1 + 0.2 * number / each)
            path = folder / name / f"{label}_{speakers[number % len(speakers)]}_{number}.wav"
            write_wave(path, tone(pitch, seconds, seed=number))
    return folder
