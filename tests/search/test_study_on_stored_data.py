"""Studies whose samples stay on the disk, and data that are loaded once or differ in a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nas_compress.errors import RunError
from nas_compress.search.measure import measure
from nas_compress.search.run import run_study
from nas_compress.search.starter_study import Starter, write_starter
from running import quick_and_apart

TABLE = """import os
import numpy as np

def load():
    with open("calls", "a") as file:
        file.write(".")
    labels = np.arange(160) % 2
    table = np.load("table.npy", mmap_mode="r")
    if NOISE:
        table = table + np.random.default_rng(os.getpid()).normal(size=(160, 4))
    return {"train": (table[:120], labels[:120]), "test": (table[120:], labels[120:])}
"""

STUDY = """name = "table"
space = "space.py"
trials = 1
objectives = ["accuracy", "size_bytes"]
[data]
factory = "my_table:load"
[teacher]
family = "mlp"
widths = [16]
depths = [1]
epochs = 1
[training]
epochs = 1
[search]
sampler = "random"
"""

SPACE = """from nas_compress.values.candidate import Candidate, distillation

def suggest(trial):
    width = trial.suggest_categorical("width_multiplier", [0.5, 1.0])
    losses = distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0)
    return Candidate(family="mlp", depths=(1,), width_multiplier=width, weight_bits=8, losses=losses)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[Path]:
    with quick_and_apart() as patch:
        patch.chdir(tmp_path)
        table = np.random.default_rng(0).normal(size=(160, 4)) + np.arange(160)[:, None] % 2
        np.save("table.npy", table.astype(np.float32))
        yield tmp_path


def write(*, noise: bool = False) -> Path:
    Path("my_table.py").write_text(TABLE.replace("NOISE", str(noise)))
    Path("study.toml").write_text(STUDY)
    Path("space.py").write_text(SPACE)
    return Path("study.toml")


def test_a_study_on_mapped_samples_has_the_figures_of_samples_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    study = write()
    monkeypatch.setattr("nas_compress.data.array_conversion.RESIDENT", 100)
    front = run_study(study)
    monkeypatch.setattr("nas_compress.data.array_conversion.RESIDENT", 10**9)
    (member,) = front.members
    found = measure(Path("runs/table") / member.model, study)
    assert found["accuracy"] == member.figures["accuracy"]


def test_init_loads_the_data_once() -> None:
    write()
    write_starter(Starter(folder=Path("mine"), data="my_table:load"))
    assert Path("calls").read_text() == "."


@pytest.mark.slow
def test_a_worker_with_other_data_ends_the_run() -> None:
    study = write(noise=True)
    with pytest.raises(RunError, match=r"loaded other data than the run\. my_table:load must return the same data"):
        run_study(study, trials=2, workers=2)
