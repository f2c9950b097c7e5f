"""A segmentation from `init` to the mask that the bundle's example writes, and a network of the user, cut."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_compress.config.schema import TrainingSection
from nas_compress.config.study_file import read_study
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.load_dataset import load_dataset
from nas_compress.devices.onnxruntime_cpu.kernel_check import float_kernels
from nas_compress.models.macs import count_macs
from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from nas_compress.search.starter_study import Starter, write_starter
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate, LossTerm
from nas_compress.values.family_settings import ConvolutionalSettings
from processors import skip_if_saturated
from running import quick_and_apart
from teachers import quick_device, small_teacher_in

DATA = """import numpy as np

def draw(samples, seed):
    chance = np.random.default_rng(seed)
    masks = np.zeros((samples, 11, 10), dtype=np.int64)
    for mask in masks:
        top, left = chance.integers(0, 6, 2)
        mask[top : top + 5, left : left + 4] = chance.integers(1, 3)
    images = (60 * masks + chance.integers(0, 40, masks.shape)).astype(np.uint8)
    masks[:, 0, 0] = 255
    return images[:, None], masks

def load():
    return {"train": draw(96, 0), "test": draw(24, 1)}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("pixels")
    (folder / "pixel_data.py").write_text(DATA)
    with quick_and_apart() as patch:
        patch.chdir(folder)
        yield folder
    sys.modules.pop("pixel_data", None)


@pytest.fixture(scope="module")
def context(home: Path) -> TrialContext:
    data = load_dataset(factory="pixel_data:load", folder=home)
    section = TeacherSection(family="unet", widths=(16, 16), depths=(2, 1), epochs=6, learning_rate=1e-2)
    teacher = small_teacher_in(home / "teacher", section, data)
    return TrialContext(
        dataset=data,
        teacher=teacher,
        teacher_macs=count_macs(teacher.network, data.train.first(1).inputs),
        target=quick_device(home),
        training=TrainingSection(epochs=3, batch_size=16, learning_rate=1e-2),
        budgets=(),
        device=torch.device("cpu"),
    )


def student(**values: object) -> Candidate:
    losses = (LossTerm(name="task_loss"), LossTerm(name="kd"))
    return Candidate(**{"family": "unet", "depths": (1, 1), "losses": losses, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("stride", [1, 4])
def test_integer_students_of_any_stride_learn_masks_and_compute_in_integers(
    stride: int, context: TrialContext, tmp_path: Path
) -> None:
    candidate = student(weight_bits=8, activation_bits=8, settings=ConvolutionalSettings(stem_stride=stride))
    outcome = run_trial(candidate, context, seed=0, model=tmp_path / "model.onnx")
    skip_if_saturated(outcome)
    assert outcome.state == "trained" and outcome.measured is not None, outcome.reason
    assert outcome.measured.agreement is not None and outcome.measured.agreement > 0.9
    assert outcome.measured.figure("mean_iou") > (0.5 if stride == 1 else 0.3)
    assert float_kernels(tmp_path / "model.onnx") == ()


def test_a_student_inherits_the_most_important_channels_and_blocks(context: TrialContext, tmp_path: Path) -> None:
    candidate = student(pruning_ratio=0.5, pruning_criterion="l1", init="inherit", round_to=4)
    outcome = run_trial(candidate, context, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    assert outcome.architecture is not None
    widths = {width.layer: width.channels for width in outcome.architecture.widths}
    assert list(widths) == ["stages.0.0.conv", "stages.1.0.conv", "joins.0.unit.conv"] and min(widths.values()) < 16


OWN = """from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, images):
        return self.head(self.down(images.float() / 128 - 0.5))

def build():
    return Net()
"""

SPACE = '''"""A network of the user with fewer channels."""
from nas_compress.values.candidate import Candidate, LossTerm

def suggest(trial):
    ratio = trial.suggest_categorical("ratio", [0.5])
    losses = (LossTerm(name="task_loss"), LossTerm(name="kd"))
    pruning = {"pruning_ratio": ratio, "pruning_criterion": "l1"}
    return Candidate(family="pruned", depths=(), weight_bits=8, losses=losses, **pruning)
'''


def test_a_network_of_the_user_is_cut_and_its_bundle_writes_a_mask(home: Path) -> None:
    folder = home / "own"
    folder.mkdir()
    (folder / "pixel_net.py").write_text(OWN)
    (folder / "pixel_data.py").write_text(DATA)
    names: dict[str, object] = {}
    exec(OWN + "\nnetwork = build()", names)
    torch.save(names["network"].state_dict(), folder / "net.pt")  # type: ignore[attr-defined]
    starter = Starter(folder=folder, data="pixel_data:load", model="pixel_net:build", weights=folder / "net.pt")
    write_starter(starter)
    text = (folder / "study.toml").read_text()
    assert 'objectives = ["mean_iou", "latency_ms", "size_bytes"]' in text and "shift" not in text
    (folder / "space.py").write_text(SPACE)
    text = text.replace("trials = 24", "trials = 1").replace("epochs = 14", "epochs = 1")
    (folder / "study.toml").write_text(text)
    run_study(folder, out=folder / "run")
    (record,) = read_records(RunFolder(root=folder / "run"))
    assert record.outcome.state == "trained" and record.outcome.measured is not None, record.outcome.reason
    assert set(record.outcome.measured.figures) >= {"mean_iou", "pixel_accuracy"}
    export_bundle(RunFolder(root=folder / "run"), 0, folder / "bundle")
    shown = subprocess.run(
        [sys.executable, folder / "bundle" / "example.py"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert "mask.pgm has the classes [" in shown.stdout and shown.stdout.strip().endswith("of 3")
    picture = (folder / "mask.pgm").read_bytes()
    assert picture.startswith(b"P5 10 11 255\n") and len(picture) == len(b"P5 10 11 255\n") + 110


def test_init_writes_a_study_of_unets_for_those_without_a_teacher(home: Path) -> None:
    (home / "none").mkdir()
    (home / "none" / "pixel_data.py").write_text(DATA)
    write_starter(Starter(folder=home / "none", data="pixel_data:load"))
    spec = read_study(home / "none").spec
    assert spec.teacher.family == "unet" and spec.objectives[0] == "mean_iou"
    assert 'family="unet"' in (home / "none" / "space.py").read_text()
    assert np.unique(load_dataset(factory="pixel_data:load", folder=home).train.targets["mask"]).tolist() == [
        0,
        1,
        2,
        255,
    ]
