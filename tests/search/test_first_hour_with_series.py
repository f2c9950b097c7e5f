"""The first hour with recorded series and a spectrogram: init, run, export, and the example of the bundle."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from first_hour import command as command
from first_hour import here as here
from nas_compress.config.study_file import read_study
from nas_compress.devices.onnx_session import file_signature
from running import Command

RECORDINGS = Path(__file__).parents[1] / "recordings"

READER = f'''"""Series of the UEA archive: a line is a sample, channels end with colons, the class is the last word."""
import lzma
import numpy as np

def read(name):
    text = lzma.open("{RECORDINGS}/" + name + "_TRAIN.ts.xz", "rt").read().split("@data\\n")[1]
    samples = [line.split(":") for line in text.split("\\n") if line]
    series = [np.array([channel.split(",") for channel in sample[:-1]], dtype=np.float32) for sample in samples]
    longest = max(each.shape[1] for each in series)
    padded = [np.pad(each, ((0, 0), (0, longest - each.shape[1]))) for each in series]
    order = np.random.default_rng(0).permutation(len(series))
    return np.stack(padded)[order], np.array([sample[-1] for sample in samples])[order]

def halves(inputs, labels):
    half = len(labels) * 3 // 4
    return {{"train": (inputs[:half], labels[:half]), "test": (inputs[half:], labels[half:])}}

def vowels():
    return halves(*read("JapaneseVowels"))

def motions():
    return halves(*read("BasicMotions"))

def spectrograms():
    random, labels = np.random.default_rng(0), np.arange(80) % 2
    samples = random.normal(size=(80, 1, 16, 24)) + labels[:, None, None, None]
    return halves(samples.astype(np.float32), np.array(["low", "high"])[labels])
'''


@pytest.mark.parametrize(
    ("name", "shape", "family", "classes"),
    [
        ("vowels", (12, 26), "conv1d", {str(speaker) for speaker in range(1, 10)}),
        pytest.param(
            "motions", (6, 100), "conv1d", {"Standing", "Running", "Walking", "Badminton"}, marks=pytest.mark.slow
        ),
        pytest.param("spectrograms", (1, 16, 24), "resnet", {"low", "high"}, marks=pytest.mark.slow),
    ],
)
def test_from_series_to_an_exported_file(
    name: str, shape: tuple[int, ...], family: str, classes: set[str], command: Command, here: Path
) -> None:
    (here / "my_series.py").write_text(READER)
    answer = command("init", "mine", "--data", f"my_series:{name}")
    assert answer.code == 0, answer.err
    assert read_study("mine").spec.teacher.family == family
    study = here / "mine" / "study.toml"
    text = study.read_text()
    assert "# spec_augment = {" in text
    start = '[search]\nenqueue = [{ precision = "weights8" }]'  # integer kernels saturate on some processors
    for plain, quick in (("trials = 24", "trials = 1"), ("epochs = 14", "epochs = 4"), ("[search]", start)):
        text = text.replace(plain, quick)
    study.write_text(re.sub(r"widths = \[.*\]", "widths = [8, 16, 16]", text))
    assert command("run", "mine").code == 0
    shown = command("show", "mine").out.splitlines()
    student = next(line for line in shown if line.startswith("0 knee"))
    if name == "vowels":  # the others have a few samples, and so a few steps
        assert float(student.split()[2]) > 1.5 / len(classes)
    assert command("export", "mine", "--trial", "0", "--out", "small").code == 0
    signature = file_signature(here / "small" / "model.onnx")
    assert signature.inputs[0].sample_shape == shape
    found = subprocess.run([sys.executable, "small/example.py"], capture_output=True, text=True, check=True)
    assert found.stdout.split()[0] in classes
