"""The size of pictures as a searched value: stores, students, files and bundles of each size, one teacher."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from nas_compress.callbacks import no_progress
from nas_compress.config.study_file import read_study
from nas_compress.data.store.pictures import decoded
from nas_compress.errors import RequestError
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.search.preflight.feasibility import _candidate_rules
from nas_compress.search.setup import StudyParts, find_teacher, gather, make_context
from nas_compress.training.live_answers import LiveAnswers
from nas_compress.training.objective import LossObjective
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.values.candidate import Candidate, Quantization, Teaching, distillation
from running import Command, command_in, quick_and_apart

STUDY = """
name = "sizes"
space = "space.py"
trials = 3
objectives = ["accuracy", "size_bytes", "macs"]
[data]
folder = "photos"
image_size = [16, 8]
shift = 1
[teacher]
widths = [8, 8, 8]
epochs = 1
[training]
epochs = 1
batch_size = 8
[search]
sampler = "random"
enqueue = [{ image_size = 8, width = 1.0 }, { image_size = 16, width = 1.0 }, { image_size = 8, width = 0.5 }]
"""

SPACE = """
from nas_compress.candidate import Candidate, LossTerm, distillation
def suggest(trial):
    width = trial.suggest_categorical("width", [0.5, 1.0])
    losses = (*distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0), LossTerm(name="fitnet", weight=0.1))
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=width, round_to=8, losses=losses)
"""


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("sizes")
    with quick_and_apart(place / "cache") as patch:
        patch.chdir(place)
        for number in range(40):
            name = ("dark", "bright")[number % 2]
            pixels = np.random.default_rng(number).integers(0, 100, (20, 24, 3), dtype=np.uint8) + 100 * (number % 2)
            path = place / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
        (place / "study.toml").write_text(STUDY)
        (place / "space.py").write_text(SPACE)
        yield place


@pytest.fixture(autouse=True)
def there(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command_in(monkeypatch, capfd)


@pytest.fixture(scope="module")
def parts() -> StudyParts:
    return gather(read_study("study.toml"))


@pytest.fixture(scope="module")
def context(parts: StudyParts) -> TrialContext:
    return make_context(parts, find_teacher(parts, no_progress))


def student(**keys: object) -> Candidate:
    return Candidate(family="resnet", depths=(1, 1, 1), round_to=8, **keys)  # type: ignore[arg-type]


def test_a_candidate_without_a_size_keeps_its_form_and_fingerprint() -> None:
    plain = student()
    assert "image_size" not in plain.to_dict() and plain.fingerprint == Candidate.from_dict(plain.to_dict()).fingerprint
    small = student(image_size=8)
    assert small.to_dict()["image_size"] == 8 and small.fingerprint != plain.fingerprint
    assert Candidate.from_dict(small.to_dict()) == small and replace(small, weight_bits=8).image_size == 8


def test_each_size_has_the_same_samples(parts: StudyParts) -> None:
    whole, small = parts.dataset, parts.dataset.at(8)
    assert parts.dataset.at(16) is whole and parts.dataset.at(None) is whole and small.at(8) is small
    for split in ("train", "validation"):
        large, few = getattr(whole, split), getattr(small, split)
        assert torch.equal(large.targets["label"], few.targets["label"])
        assert large.inputs["input"].shape[1:] == (3, 16, 16) and few.inputs["input"].shape[1:] == (3, 8, 8)
        pooled = nn.functional.avg_pool2d(large.inputs["input"].float(), 2)
        assert (pooled - few.inputs["input"].float()).abs().mean() < 12
    with pytest.raises(
        RequestError, match=r"^image_size must be one of 8, 16, as in data.image_size, but got image_si"
    ):
        whole.at(12)


def test_the_teacher_sees_its_own_pictures(context: TrialContext) -> None:
    small = context.at(8)
    assert small is context.at(8) and small.at(8) is small and context.at(16) is context
    assert small.train.inputs["input"].shape[2:] == (8, 8) and context.train is context.teacher.train_samples
    views = small.teacher_views
    assert views is not None and context.teacher_views is None
    index, view = torch.tensor([3, 1]), 4
    stored = context.teacher.answers[view].index_select(0, index)
    live = LiveAnswers([context.teacher.network], small.dataset.task)
    given = []

    class Loss(TrainingLoss):
        def forward(self, *arguments: object, answers: torch.Tensor, **named: object) -> dict[str, torch.Tensor]:
            given.append(answers)
            return {}

    losses = distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0)
    batch = small.dataset.augmentation.over(small.train.inputs).batch(index, view)
    for answers in (context.teacher.answers, live):
        objective = LossObjective(Loss(small.dataset.task, losses), answers=answers, views=views)
        targets = {"label": small.train.targets["label"][index]}
        objective(nn.Sequential(Raw()), batch, targets, view=view, index=index, progress=0.0)
    assert torch.equal(given[0], stored)
    assert torch.allclose(given[1] - given[1].amax(dim=1, keepdim=True), stored.float(), atol=0.02)


class Raw(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean((2, 3))[:, :2]


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (student(image_size=12), "image_size must be one of 8, 16"),
        (
            student(
                image_size=8,
                losses=distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0),
                teaching=Teaching(teacher="apprentice", scheme="joint"),
                weight_bits=4,
                quantization=Quantization(method="lsq"),
            ),
            "scheme='joint' trains the teacher on the student's batches, but got image_size=8; leave it out",
        ),
    ],
)
def test_a_size_that_does_not_fit_is_refused(candidate: Candidate, words: str, context: TrialContext) -> None:
    with pytest.raises(RequestError) as caught:
        candidate_rules(context, seed=0).require(candidate)
    assert words in str(caught.value)


def test_positions_of_another_grid_cannot_be_inherited() -> None:
    text = STUDY.replace("widths = [8, 8, 8]", 'family = "vit"\nwidths = [16]\ndepths = [1]\nheads = 2\npatch_size = 4')
    Path("vit.toml").write_text(text.replace("enqueue", "# enqueue"))
    study = gather(read_study("vit.toml"))
    given = Candidate(family="vit", depths=(1,), heads=2, patch_size=4, init="inherit", image_size=8)
    with pytest.raises(
        RequestError, match=r"init='inherit' needs weights of the teacher's shapes, but that of .*positi"
    ):
        _candidate_rules(study, ()).require(given)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image_size = [16, 16]", "image_size must be different sizes from 4 to 1024, but got image_size=[16, 16]"),
        ("image_size = [2, 16]", "image_size must be different sizes from 4 to 1024, but got image_size=[2, 16]"),
        ("image_size = []", "image_size must be different sizes from 4 to 1024, but got image_size=[]"),
        ("image_size = 2000", "image_size must be different sizes from 4 to 1024, but got image_size=2000"),
    ],
)
def test_wrong_sizes_are_refused_in_one_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY.replace("image_size = [16, 8]", text))
    with pytest.raises(RequestError) as caught:
        read_study(tmp_path / "study.toml")
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_run_searches_the_size_and_every_command_knows_it(command: Command, here: Path) -> None:
    assert command("check", "study.toml").code == 0
    answer = command("run", "study.toml", "--out", "out")
    assert answer.code == 0, answer.err
    for number, size in enumerate((8, 16, 8)):
        file = onnx.load(here / "out" / "trials" / str(number) / "model.onnx")
        assert file.graph.input[0].type.tensor_type.shape.dim[-1].dim_value == size
    answer = command("measure", "out/trials/0/model.onnx", "--study", "study.toml")
    assert answer.code == 0, answer.err
    assert command("verify", "out", "--study", "study.toml").code == 0
    answer = command("confirm", "out", "--seeds", "1", "--study", "study.toml")
    assert answer.code == 0, answer.err
    assert command("export", "out", "--trial", "0", "--out", "small").code == 0
    config = json.loads(Path("small/config.json").read_text())
    assert config["candidate"]["image_size"] == 8 and config["study"]["data"]["image_size"] == [16, 8]
    picture = next(iter((here / "photos" / "dark").iterdir()))
    found = subprocess.run([sys.executable, "small/example.py", picture], capture_output=True, text=True, check=True)
    assert found.stdout.split()[0] in ("bright", "dark")
    code = (Path("small/example.py").read_text() + "\nnp.save('read.npy', samples)\n").replace(
        "sys.argv[1]", repr(str(picture))
    )
    subprocess.run(
        [sys.executable, "-c", code.replace("__file__", "'small/example.py'").replace("len(sys.argv) > 1", "True")],
        check=True,
    )
    expected = decoded(here, picture.relative_to(here).as_posix(), mode="RGB", size=8, where="")
    assert np.array_equal(np.load("read.npy")[0], expected)
