"""The data of studies/series: series of several lengths, padded behind their end."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from documented import ROOT
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError

FOLDER = ROOT / "studies" / "series"


@pytest.fixture(scope="module")
def vowels() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vowels", FOLDER / "vowels.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(steps: int, speaker: int) -> str:
    channels = [",".join(f"{channel + step / 100}" for step in range(steps)) for channel in range(12)]
    return ":".join([*channels, str(speaker)])


def text(*rows: tuple[int, int]) -> str:
    return "\n".join(["@problemName JapaneseVowels", "@data", *(line(steps, speaker) for steps, speaker in rows), ""])


def test_a_series_is_padded_behind_its_end(vowels: ModuleType) -> None:
    inputs, speakers = vowels.read_series(text((2, 9), (29, 1)))
    assert inputs.shape == (2, 12, 29) and inputs.dtype == np.float32 and speakers.tolist() == [8, 0]
    np.testing.assert_allclose(inputs[0, 11, :3], [11, 11.01, 0], atol=1e-6)
    assert not inputs[0, :, 2:].any() and inputs[1, :, 1:].all()


def test_the_test_series_of_each_speaker_are_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "JapaneseVowels"
    folder.mkdir()
    (folder / "JapaneseVowels_TRAIN.ts").write_text(
        text(*((7, speaker) for speaker in range(1, 10)), *((8, speaker) for speaker in range(1, 10)))
    )
    (folder / "JapaneseVowels_TEST.ts").write_text(text(*((9, speaker) for speaker in range(1, 10) for _ in range(3))))
    monkeypatch.setenv("NAS_COMPRESS_DATA", str(tmp_path))
    data = load_dataset(factory="vowels:load", folder=FOLDER)
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 18, 9)
    assert data.validation.targets["label"].bincount().tolist() == [2] * 9


def test_missing_data_are_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("aeon") is not None:
        pytest.skip("aeon is installed")
    monkeypatch.setenv("NAS_COMPRESS_DATA", str(tmp_path))
    with pytest.raises(RequestError, match=r"JapaneseVowels_TRAIN.ts must lie .*; pip install --no-deps aeon==1.6.0"):
        load_dataset(factory="vowels:load", folder=FOLDER)
