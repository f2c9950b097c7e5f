"""The first hour with a folder of sounds: init, run, export, and the example of the bundle on a .wav file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from first_hour import command as command
from first_hour import here as here
from nas_compress.devices.onnx_session import file_signature
from running import Command
from sound_files import tone, write_tones, write_wave


def example(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "small/example.py", *arguments], capture_output=True, text=True, check=False)


def test_from_a_folder_of_sounds_to_a_file_that_reads_a_sound(command: Command, here: Path) -> None:
    write_tones(here / "sounds", each=32)
    answer = command("init", "mine", "--data", "sounds")
    assert answer.code == 0, answer.err
    text = Path("mine/study.toml").read_text()
    values = tomllib.loads(text)
    assert values["data"] == {"folder": "../sounds", "seconds": 0.2, "mels": 32, "speaker_part": 2}
    assert values["teacher"]["family"] == "conv1d"
    masks = "# spec_augment = { frequency = 4, time = 1 }"
    # integer kernels saturate on some processors
    start = '[search]\nenqueue = [{ precision = "weights8", width_multiplier = 1.0, pruning_percent = 0 }]'
    for plain, quick in (
        ("trials = 24", "trials = 1"),
        ("epochs = 20", "epochs = 2"),
        (masks, masks[2:]),
        ("[search]", start),
    ):
        assert plain in text
        text = text.replace(plain, quick)
    Path("mine/study.toml").write_text(re.sub(r"widths = \[.*\]", "widths = [8, 16, 16]", text))
    assert command("run", "mine").code == 0
    student = next(line for line in command("show", "mine").out.splitlines() if line.startswith("0 knee"))
    assert float(student.split()[2]) > 0.6
    assert command("export", "mine", "--trial", "0", "--out", "small").code == 0
    (spec,) = file_signature(here / "small" / "model.onnx").inputs
    assert (spec.dtype, spec.shape) == ("int16", ("N", 1_600))
    assert "16 bits and 8000 samples per second" in Path("small/README.md").read_text()
    sound = write_wave(here / "own.wav", tone(450.0, 0.5, seed=99))  # longer than the input
    found, silence = example(str(sound)).stdout, example().stdout
    assert {found.split()[0], silence.split()[0]} <= {"low", "high"} and found != silence
    refused = example(str(write_wave(here / "fast.wav", tone(400, 0.2), rate=16_000)))
    assert refused.returncode == 1 and "ffmpeg -i IN -ac 1 -ar 8000" in refused.stderr
    config = json.loads(Path("small/config.json").read_text())["study"]["data"]
    assert (config["folder"], config["seconds"], config["speaker_part"]) == ("../sounds", 0.2, 2)
