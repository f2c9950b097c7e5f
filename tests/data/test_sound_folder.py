"""Folders of .wav files: read, cut or filled to one length, divided by speaker, and refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nas_compress.data.audio.parts import SoundSettings
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError
from nas_compress.tasks.classification import Classification
from sound_files import tone, write_tones, write_wave

WHERE = "study.toml: data.folder"
TENTH = SoundSettings(seconds=0.1)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path / "cache"))
    yield tmp_path


def load(settings: SoundSettings = TENTH, **choices: object) -> Dataset:
    return load_dataset(pictures="sounds", sound_settings=settings, where=WHERE, **choices)  # type: ignore[arg-type]


def refused(settings: SoundSettings = TENTH, **choices: object) -> str:
    with pytest.raises(RequestError) as caught:
        load(settings, **choices)
    assert "\n" not in str(caught.value) and WHERE in str(caught.value)
    return str(caught.value)


def test_a_folder_for_each_class_is_read_as_16_bit_samples_of_one_length() -> None:
    write_tones(Path("sounds"))
    data = load()
    (spec,) = data.task.signature.inputs
    assert isinstance(data.task, Classification) and data.task.class_names == ("high", "low")
    assert (spec.dtype, spec.shape, spec.spectrogram_shape) == ("int16", ("N", 800), (32, 5))
    assert [len(each) for each in (data.train, data.validation, data.test)] == [28, 6, 6]
    assert len(data.normalisation["input"].mean) == 32  # type: ignore[arg-type]
    found = {row.tobytes() for row in data.train.inputs["input"].numpy()}
    assert tone(400, 0.2)[:800].tobytes() in found | {
        row.tobytes()
        for each in (data.validation, data.test.reveal(purpose="t"))
        for row in each.inputs["input"].numpy()
    }


def test_a_shorter_sound_ends_in_silence_a_longer_one_is_cut_and_the_longest_is_the_default() -> None:
    for number in range(20):
        write_wave(Path(f"sounds/a/{number}.wav"), np.full(300 + number, 7, dtype=np.int16))
        write_wave(Path(f"sounds/b/{number}.WAV"), np.full(2_000, 9, dtype=np.int16))
    samples = load().train.inputs["input"].numpy()
    assert samples.shape[1] == 800 and {*np.count_nonzero(samples, axis=1)} <= {*range(300, 320), 800}
    assert (samples[samples[:, 0] == 7][:, 320:] == 0).all() and (samples[samples[:, 0] == 9] == 9).all()
    assert load(SoundSettings()).task.signature.inputs[0].shape == ("N", 2_000)


def test_drawn_splits_have_whole_speakers() -> None:
    write_tones(Path("sounds"), each=40)
    data = load(SoundSettings(seconds=0.2, speaker_part=2))
    sounds = {  # the speaker of each sound, by its samples
        tone(base * (1 + 0.2 * number / 40), 0.2, seed=number).tobytes(): number % 4
        for base in (400.0, 2_000.0)
        for number in range(40)
    }
    speakers = [
        {sounds[row.tobytes()] for row in split.inputs["input"].numpy()}
        for split in (data.train, data.validation, data.test.reveal(purpose="speakers"))
    ]
    assert [len(each) for each in speakers] == [2, 1, 1] and set.union(*speakers) == {0, 1, 2, 3}


def test_a_speaker_in_two_folders_of_splits_is_refused() -> None:
    for split in ("train", "test"):
        write_tones(Path("sounds") / split, each=8)
    assert "a speaker must be in one split, but ann is in train and test (4 such speakers)" in refused(
        SoundSettings(seconds=0.1, speaker_part=2)
    )
    assert "speaker_part <= 3 (parts of the name between _) must hold for" in refused(
        SoundSettings(seconds=0.1, speaker_part=4)
    )


def test_few_speakers_are_refused() -> None:
    write_tones(Path("sounds"), speakers=("ann", "ben"))
    assert "there must be 3 speakers or more to draw test and validation, but got ann, ben" in refused(
        SoundSettings(seconds=0.1, speaker_part=2)
    )


@pytest.mark.parametrize(
    ("samples", "choices", "rule"),
    [
        (
            tone(400, 0.2),
            {"channels": 2},
            "a sound must have 1 channel of 16 bits, but low/bad.wav has 2 channels of 16",
        ),
        (tone(400, 0.2), {"width": 1}, "a sound must have 1 channel of 16 bits, but low/bad.wav has 1 channels of 8"),
        (tone(400, 0.2), {"rate": 16_000}, "all sounds must have one sampling rate, "),
        (tone(400, 0.0), {}, "a sound must have samples, but low/bad.wav has none"),
    ],
)
def test_a_file_of_another_kind_is_named_with_a_way_out(
    samples: np.ndarray, choices: dict[str, int], rule: str
) -> None:
    write_tones(Path("sounds"))
    write_wave(Path("sounds/low/bad.wav"), samples, **choices)
    message = refused()
    assert rule in message and ("ffmpeg -i IN -ac 1 -ar " in message or "remove it" in message)


@pytest.mark.parametrize("content", [b"", b"RIFF\0\0\0\0WAVEno sound", b"ID3 is an mp3"])
def test_a_broken_file_is_named(content: bytes) -> None:
    write_tones(Path("sounds"))
    Path("sounds/low/bad.wav").write_bytes(content)
    assert "every sound must be a .wav file of 16 bits, but low/bad.wav is not" in refused()


def test_a_file_that_ends_early_is_named() -> None:
    path = write_tones(Path("sounds")) / "low" / "0_ann_0.wav"
    path.write_bytes(path.read_bytes()[:-2_000])
    assert "every sound must be readable, but low/0_ann_0.wav is not" in refused()


def test_other_formats_pictures_keys_and_lengths_are_refused() -> None:
    write_tones(Path("sounds"))
    assert "mels <= " in refused(SoundSettings(seconds=0.1, bands=120))
    assert "a sound must have 256 samples (a window) or more, but got 80" in refused(SoundSettings(seconds=0.01))
    assert "image_size is for pictures, but got image_size=8 for sounds" in refused(image_size=8)
    assert "shift and flip are for images" in refused(shift=1)
    for path in sorted(Path("sounds").rglob("*.wav")):
        path.rename(path.with_suffix(".mp3"))
    assert "sounds must be .wav files of 16 bits, but got" in refused()
