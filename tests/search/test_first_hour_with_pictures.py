"""The first hour with a folder of pictures: init, run, export, and the example of the bundle."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from first_hour import command as command
from first_hour import here as here
from nas_compress.config.study_file import read_study
from running import Command


@pytest.fixture
def photos(here: Path) -> Path:
    """Forty pictures of 16 x 20 in two classes, bright and dark."""
    for number in range(40):
        name = ("dark", "bright")[number % 2]
        pixels = np.random.default_rng(number).integers(0, 100, (20, 16, 3), dtype=np.uint8) + 100 * (number % 2)
        place = here / "photos" / name / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(place)
    return here / "photos"


def test_from_a_folder_of_pictures_to_an_exported_file(command: Command, photos: Path) -> None:
    answer = command("init", "mine", "--data", "photos/")
    assert answer.code == 0, answer.err
    text = Path("mine/study.toml").read_text()
    assert tomllib.loads(text)["data"] == {"folder": "../photos", "image_size": 16}
    start = '[search]\nenqueue = [{ precision = "weights8" }]'  # integer kernels saturate on some processors
    for plain, quick in (("trials = 24", "trials = 1"), ("epochs = 14", "epochs = 1"), ("epochs = 20", "epochs = 1")):
        assert plain in text
        text = text.replace(plain, quick)
    text = text.replace("[32, 64, 128]", "[8, 16, 16]")
    Path("mine/study.toml").write_text(text.replace("[search]", start))
    assert command("run", "mine").code == 0
    assert command("export", "mine", "--trial", "0", "--out", "small").code == 0
    found = subprocess.run([sys.executable, "small/example.py"], capture_output=True, text=True, check=True)
    assert found.stdout.split()[0] in ("bright", "dark")
    assert json.loads(Path("small/config.json").read_text())["study"]["data"]["folder"] == "../photos"


def test_many_large_pictures_begin_with_a_part_of_them(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas_compress.search.starter_study.FIRST_RUN", 64 * 64 * 50)
    for number in range(100):
        place = here / "photos" / ("a", "b")[number % 2] / f"{number}.bmp"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (72, 64), number % 251).save(place)
    assert command("init", "mine", "--data", "photos").code == 0
    spec = read_study("mine").spec
    assert (spec.data.image_size, spec.data.train_samples, spec.training.epochs) == (64, 50, 8)
    assert "# of 70, for a first run of minutes; remove this line" in Path("mine/study.toml").read_text()


def test_a_broken_picture_is_named_and_nothing_is_written(command: Command, photos: Path) -> None:
    (photos / "dark" / "8.jpg").write_bytes(b"\xff\xd8no picture")
    answer = command("init", "mine", "--data", "photos")
    assert answer.code == 2 and "every picture must be readable, but dark/8.jpg is not" in answer.line
    assert not Path("mine").exists()
