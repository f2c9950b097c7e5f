"""A small, real run with everything that a run folder and the cache can hold."""

from __future__ import annotations

import lzma
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from commands import Commands
from fuzz_server import Ended, Request

STUDY = """\
name = "tiny"
space = "space.py"
trials = 5
objectives = ["accuracy", "latency_ms", "size_bytes"]

[data]
factory = "samples:load"

[teacher]
widths = [8, 8, 16]
epochs = 3
learning_rate = 0.02

[training]
epochs = 2
batch_size = 16
learning_rate = 0.02

[search]
sampler = "random"
stop = "none"
enqueue = [
    { loss_weight = 1.0, width_multiplier = 0.5, weight_bits = 32 },
    { loss_weight = 1.0, width_multiplier = 0.5, weight_bits = 4 },
    { loss_weight = 1e300, width_multiplier = 0.5, weight_bits = 32 },
    { loss_weight = 1.0, width_multiplier = 4.0, weight_bits = 32 },
    { loss_weight = 1.0, width_multiplier = 1.0, weight_bits = 8 },
]

[budgets.size_bytes]
at_most = 60000
"""

SPACE = '''\
"""Residual networks; the large weight overflows, and its trial fails."""
from nas_compress.values.candidate import Candidate, LossTerm


def suggest(trial):
    """Propose one student."""
    weight = trial.suggest_categorical("loss_weight", [1.0, 1e300])
    width = trial.suggest_categorical("width_multiplier", [0.5, 1.0, 4.0])
    bits = trial.suggest_categorical("weight_bits", [4, 8, 32])
    losses = (LossTerm(name="kd"), LossTerm(name="cross_entropy", weight=weight))
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=width, weight_bits=bits, losses=losses)
'''

DATA = '''\
"""Noisy pictures of four patterns."""
from pathlib import Path

import numpy as np


def load():
    """Read the two splits."""
    stored = np.load(Path(__file__).with_name("samples.npz"))
    return {name: (stored[f"{name}_images"], stored[f"{name}_labels"]) for name in ("train", "test")}
'''

CHECKPOINT, TEACHERS, LATENCIES = "runs/tiny/checkpoints/*.pt", "cache/teachers/*", "cache/latency"


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """The run in its place, and an untouched copy of it.

    place: the working folder of all commands, with `study/`, `runs/tiny/`, `bundle/`, `cache/` and `outside/`.
    """

    place: Path
    pristine: Path

    def restore(self) -> None:
        """Make the place as it was."""
        for path in self.place.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(self.pristine, self.place, symlinks=True, dirs_exist_ok=True)

    def repair(self, relative: str) -> None:
        """Put one file or folder back."""
        path, whole = self.place / relative, self.pristine / relative
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        shutil.copytree(whole, path) if whole.is_dir() else shutil.copy2(whole, path)


def make_specimen(folder: Path, commands: Commands, *, quick: bool) -> Specimen:
    """Run the study: trained, with few bits, failed and over budget; the fifth trial is killed in its training.

    quick: without the files of the slow commands.
    """
    specimen = Specimen(place=folder / "place", pristine=folder / "pristine")
    place = specimen.place
    write_study(place / "study")

    def succeed(*arguments: str, interrupted: bool = False) -> Ended:
        request = Request(arguments=arguments, folder=str(place), timeout_s=300, interrupted=interrupted, sketched=True)
        ended = commands.run(request)
        assert interrupted or ended.code == 0, f"{arguments}: {ended.err}"
        return ended

    succeed("run", "study", "--trials", "4")
    if not quick:
        succeed("confirm", "tiny", "--best", "accuracy", "--seeds", "1")
        succeed("report", "tiny")
    succeed("export", "tiny", "--trial", "0", "--out", "bundle")
    for name in ("samples.py", "samples.npz"):
        shutil.copy(place / "study" / name, place / "bundle" / name)
    packed = lzma.compress((place / "bundle" / "model.onnx").read_bytes())
    (place / "packed.onnx.xz").write_bytes(packed)
    succeed("run", "study", interrupted=True)
    assert list(place.glob(CHECKPOINT))
    outside = place / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("not of the run\n")
    shutil.copytree(place, specimen.pristine, symlinks=True)
    return specimen


def write_study(folder: Path) -> None:
    """Write the study, its space, and 160 samples of four classes."""
    folder.mkdir(parents=True)
    (folder / "study.toml").write_text(STUDY)
    (folder / "space.py").write_text(SPACE)
    (folder / "samples.py").write_text(DATA)
    random = np.random.default_rng(0)
    patterns = random.integers(0, 2, size=(4, 1, 8, 8))
    arrays = {}
    for name, count in (("train", 160), ("test", 40)):
        labels = np.arange(count) % 4
        noise = random.normal(0, 110, size=(count, 1, 8, 8))
        arrays[f"{name}_images"] = np.clip(64 + 128 * patterns[labels] + noise, 0, 255).astype(np.uint8)
        arrays[f"{name}_labels"] = labels
    np.savez(folder / "samples.npz", **arrays)
