"""Bring your own: data and teacher from ten lines of the user's code, students of both families."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from nas_compress.errors import RequestError
from nas_compress.files import read_json
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from processors import skip_if_saturated

DATA = """import numpy as np

def load():
    random = np.random.default_rng(0)
    labels = np.arange(300) % 3
    images = random.integers(0, 60, (300, 2, 12, 10), dtype=np.uint8)
    for index, label in enumerate(labels):
        images[index, :, 3 * label : 3 * label + 4] += 150  # a bright band, lower for each class
    return {"train": (images[:200], labels[:200]), "test": (images[200:], labels[200:])}
"""

TEACHER = """from torch import nn

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 16, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(16 * 5 * 4, 3)
    def forward(self, samples):
        return self.head(self.body(samples.float() / 255))

def build():
    return Own()
"""

TRAIN = """import torch
from safetensors.torch import save_file
from my_data import load
from my_teacher import build

torch.manual_seed(0)
images, labels = (torch.tensor(values) for values in load()["train"])
network = build()
optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
for _ in range(60):
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(network(images), labels).backward()
    optimiser.step()
save_file(network.state_dict(), "teacher.safetensors")
"""

STUDY = """
name = "own"
space = "my_space.py"
trials = 4
[data]
factory = "my_data:load"
[teacher]
factory = "my_teacher:build"
weights = "teacher.safetensors"
[training]
epochs = 4
batch_size = 20
learning_rate = 0.01
[search]
sampler = "random"
stop = "none"
"""

SPACE = '''"""Both families, taught, cut by the vote of the own teacher, in both precisions."""
from nas_compress.values.candidate import Candidate, distillation


def suggest(trial):
    bits = trial.suggest_categorical("bits", [32, 8])
    return Candidate(
        family=trial.suggest_categorical("family", ["resnet", "mobilenet"]),
        depths=(1, 1, 1),
        width_multiplier=0.5,
        pruning_ratio=trial.suggest_categorical("pruning_ratio", [0.0, 0.5]),
        pruning_criterion="l1",
        weight_bits=bits,
        activation_bits=bits,
        losses=distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0),
    )
'''


@pytest.mark.slow
def test_a_study_on_own_data_with_an_own_teacher(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    files = {"my_data.py": DATA, "my_teacher.py": TEACHER, "my_space.py": SPACE, "study.toml": STUDY, "fit.py": TRAIN}
    for name, text in files.items():
        (folder / name).write_text(text)
    assert len(DATA.splitlines()) <= 10
    subprocess.run([sys.executable, "fit.py"], cwd=folder, check=True)
    front = run_study(folder)
    records = read_records(RunFolder(root=tmp_path / "runs" / "own"))
    for record in records:
        skip_if_saturated(record.outcome)
    assert [record.outcome.state for record in records] == ["trained"] * 4
    assert {record.outcome.candidate.shape.family for record in records} == {"resnet", "mobilenet"}
    assert {record.outcome.candidate.precision.weight_bits for record in records} == {32, 8}
    assert front.teacher is not None
    assert front.teacher.figures["accuracy"] > 0.95
    best = max(record.outcome.measured.figures.get("accuracy", 0) for record in records if record.outcome.measured)
    assert best > 0.6, "the bands are easy to tell apart"
    assert read_json(tmp_path / "runs" / "own" / "run.json")["classes"] == 3


def test_a_teacher_that_cannot_be_exported_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    own = TEACHER.replace("nn.AvgPool2d(2)", "nn.AdaptiveAvgPool2d((3, 4))").replace("16 * 5 * 4", "16 * 3 * 4")
    for name, text in {"my_data.py": DATA, "my_teacher.py": own, "my_space.py": SPACE, "study.toml": STUDY}.items():
        (folder / name).write_text(text)
    names: dict[str, Any] = {"__name__": "own"}
    exec(own, names)
    save_file(names["build"]().state_dict(), folder / "teacher.safetensors")
    with pytest.raises(RequestError, match=r"study.toml: teacher.factory = \S+ must be a network for ONNX"):
        run_study(folder)
    assert not (tmp_path / "runs").exists()
