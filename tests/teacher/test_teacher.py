from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nas_compress.config.schema import TeacherSection, TrainingSection
from nas_compress.data.dataset import Dataset, Split
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError
from nas_compress.teacher.logits_cache import cached_answers, compute_answers
from nas_compress.teacher.obtain import obtain_teacher, teacher_architecture
from nas_compress.teacher.teacher import Teacher

SECTION = TeacherSection(widths=(8, 8, 16), epochs=2, learning_rate=1e-2)
TRAINING = TrainingSection(batch_size=25)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset(name="digits", shift=1, train_samples=100)


@dataclass
class Asked:
    """Obtains teachers, and notes the progress that was told."""

    data: Dataset
    told: list[tuple[str, int, int]] = field(default_factory=list)

    def __call__(self, section: TeacherSection = SECTION, data: Dataset | None = None, **training: object) -> Teacher:
        self.told.clear()
        return obtain_teacher(
            section,
            TRAINING.model_copy(update=training),
            data or self.data,
            folder=Path(),
            label="study.toml",
            device=torch.device("cpu"),
            progress=lambda what, done, count: self.told.append((what, done, count)),
        )

    @property
    def trained(self) -> bool:
        return ("teacher", 1, 2) in self.told


@pytest.fixture
def ask(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path))
    return Asked(data=data)


def weights(teacher: Teacher) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in teacher.network.state_dict().values()])


def test_it_is_trained_once(ask: Asked) -> None:
    first = ask()
    assert ask.told == [("teacher", 1, 2), ("teacher", 2, 2)]
    second = ask()
    assert ask.told == []
    assert first.fingerprint == second.fingerprint and torch.equal(weights(first), weights(second))
    assert not any(module.training for module in second.network.modules())
    told = json.loads((first.folder / "teacher.json").read_text())
    assert told["fingerprint"] == first.fingerprint and told["made_by"]["teacher"]["widths"] == [8, 8, 16]


@pytest.mark.parametrize("change", [{"seed": 1}, {"epochs": 3}, {"widths": (8, 8, 8)}, {"depths": (1, 2, 1)}])
def test_another_setting_is_another_teacher(change: dict[str, object], ask: Asked) -> None:
    before = ask().fingerprint
    assert ask(SECTION.model_copy(update=change)).fingerprint != before
    assert ask.told


def test_what_its_training_reads_of_the_study_counts_and_the_rest_does_not(ask: Asked) -> None:
    before = ask().fingerprint
    assert ask(batch_size=50).fingerprint != before and ask.trained
    assert ask(weight_decay=0.5).fingerprint != before and ask.trained
    assert ask(epochs=99, learning_rate=1.0).fingerprint == before and not ask.trained


def test_other_data_is_another_teacher(ask: Asked) -> None:
    before = ask().fingerprint
    for other in (
        load_dataset(name="digits", shift=1, train_samples=100, seed=1),
        load_dataset(name="digits", shift=0, train_samples=100),
        load_dataset(name="digits", shift=1, train_samples=101),
    ):
        assert ask(data=other).fingerprint != before and ask.trained


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "other"])
def test_a_broken_file_is_trained_again(damage: str, ask: Asked) -> None:
    teacher = ask()
    path = teacher.folder / "teacher.safetensors"
    content = path.read_bytes()
    if damage == "other":
        narrow = ask(SECTION.model_copy(update={"widths": (8, 8, 8)}))
        path.write_bytes((narrow.folder / path.name).read_bytes())
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "noise": b"\x00" * 100}[damage])
    again = ask()
    assert ask.trained and torch.equal(weights(again), weights(teacher))
    assert path.read_bytes() == content


def test_a_teacher_that_diverges_is_a_wrong_request(ask: Asked) -> None:
    with pytest.raises(
        RequestError, match=r"^study.toml: the teacher must learn, but with teacher.learning_rate=1e\+30"
    ):
        ask(SECTION.model_copy(update={"learning_rate": 1e30}))
    assert not list(Path(ask().folder.parent).glob("*/.*"))


def test_stages_without_widths_are_refused(data: Dataset) -> None:
    with pytest.raises(RequestError, match=r"^s: teacher.depths must have one entry per stage of resnet \(3\)"):
        teacher_architecture(TeacherSection(depths=(1, 1)), data, "s")
    assert (
        teacher_architecture(TeacherSection(depths=(1, 1), widths=(8, 16)), data).channels("stages.1.0.main.1.conv")
        == 16
    )


def test_answers_are_the_networks_in_every_view_and_kept_as_halves(ask: Asked, data: Dataset) -> None:
    teacher = ask()
    answers = teacher.answers
    assert [line for line in ask.told if line[0] == "teacher answers"] == [
        ("teacher answers", n, 9) for n in range(1, 10)
    ]
    assert answers.dtype == torch.float16 and answers.shape == (9, 100, 10) and not answers.is_inference()
    views, everything = data.augmentation.over(data.train.inputs), torch.arange(len(data.train))
    with torch.no_grad():
        for view in range(9):
            expected = teacher.network(views.batch(everything, view)["input"])
            torch.testing.assert_close(answers[view].float(), expected, rtol=2e-3, atol=2e-3)
    assert not torch.equal(answers[0], answers[1])

    again = ask()
    assert torch.equal(again.answers, answers) and ask.told == []
    assert torch.equal(load_file(again.folder / "logits.safetensors")["logits"], answers)


class Scaled(torch.nn.Module):
    """A module that may change while its weights, of which it has none, stay."""

    def __init__(self, factor: float, classes: int = 3) -> None:
        super().__init__()
        self.factor, self.classes = factor, classes
        self.calls = 0

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.factor * samples.float().flatten(1)[:, : self.classes]


def test_kept_answers_count_only_while_they_are_the_networks(data: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "logits.safetensors"

    def kept(network: torch.nn.Module, samples: Split = data.train) -> torch.Tensor:
        return cached_answers(path, network, samples, data.augmentation, data.task)

    first, same = Scaled(1.0), Scaled(1.0)
    kept(first)
    assert torch.equal(kept(same), kept(first)) and same.calls < data.augmentation.count
    for other in (Scaled(2.0), Scaled(1.0, classes=4), Scaled(float("nan"))):
        expected = compute_answers(other, data.train, data.augmentation, data.task)
        torch.testing.assert_close(kept(other), expected, equal_nan=True)
    half = data.train.first(50)
    assert kept(Scaled(1.0), half).shape == (9, 50, 3)
    path.write_bytes(b"broken")
    assert kept(Scaled(1.0)).shape == (9, 100, 3)


def test_a_vote_is_taken_once(ask: Asked) -> None:
    teacher = ask()
    for criterion in ("l1", "uniform"):
        assert teacher.channel_groups(criterion, seed=1) is teacher.channel_groups(criterion, seed=2)
    assert teacher.channel_groups("random", seed=1) is teacher.channel_groups("random", seed=1)
    assert teacher.channel_groups("random", seed=1) is not teacher.channel_groups("random", seed=2)
