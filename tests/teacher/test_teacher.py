from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from nas_compress.callbacks import Progress
from nas_compress.config.schema import TrainingSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError
from nas_compress.pruning.importance_criteria import CRITERIA
from nas_compress.teacher import store
from nas_compress.teacher.obtain import obtain_teacher, teacher_architecture
from nas_compress.teacher.teacher import Teacher
from nas_compress.teacher.tensor_file import digest_of_tensors, write_tensors
from nas_compress.training import checkpoint, precision
from nas_compress.training.random_state import seed_all
from nas_compress.values.teaching import CHECKPOINTS

SECTION = TeacherSection(widths=(8, 8, 16), epochs=2, learning_rate=1e-2)
LONGER = SECTION.model_copy(update={"epochs": 6})
TRAINING = TrainingSection(batch_size=25)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset(name="digits", shift=1, train_samples=100)


@dataclass
class Asked:
    """Obtains teachers, and notes the progress that was told."""

    data: Dataset
    told: list[tuple[str, int, int]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def __call__(
        self,
        section: TeacherSection = SECTION,
        data: Dataset | None = None,
        progress: Progress | None = None,
        **training: object,
    ) -> Teacher:
        self.told.clear()
        self.notices.clear()
        return obtain_teacher(
            section,
            TRAINING.model_copy(update=training),
            data or self.data,
            folder=Path(),
            label="study.toml",
            device=torch.device("cpu"),
            progress=progress or (lambda what, done, count: self.told.append((what, done, count))),
            notice=self.notices.append,
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


def test_the_process_that_trained_it_has_the_bits_of_every_other(ask: Asked) -> None:
    states = []
    teachers = []
    for _ in range(2):
        seed_all(7)
        teachers.append(ask())
        states.append(torch.get_rng_state())
    assert torch.equal(*states), "a trial's random numbers would depend on the cache"
    layouts = [{name: value.stride() for name, value in each.network.state_dict().items()} for each in teachers]
    assert layouts[0] == layouts[1] and teachers[0].weights_digest == teachers[1].weights_digest
    first = teachers[0].answers
    (teachers[0].folder / "logits.safetensors").unlink()
    assert torch.equal(teachers[1].answers, first)


def test_its_uses_leave_it_as_it_was(ask: Asked) -> None:
    teacher = ask()
    before = teacher.weights_digest
    for criterion in CRITERIA:
        teacher.channel_groups(criterion, seed=0)
    _ = teacher.sensitivities(4), teacher.answers, teacher.kept_blocks((1, 1), "importance")
    state = teacher.network.state_dict()
    assert digest_of_tensors(state) == before and all(value.is_contiguous() for value in state.values())
    assert not any(module.training for module in teacher.network.modules())
    assert all(parameter.requires_grad for parameter in teacher.network.parameters())


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


DAMAGES = {
    "empty": (lambda content: b"", "is damaged: "),
    "cut": (lambda content: content[: len(content) // 2], "is damaged: "),
    "noise": (lambda content: b"\x00" * 100, "is damaged: "),
    "one bit": (lambda content: content[:-7] + bytes([content[-7] ^ 1]) + content[-6:], "does not match its checksum"),
    "no checksum": (lambda content: save(load(content)), "has no checksum; an earlier version"),
    "nan": (None, "holds weights that are not finite"),
    "other network": (None, "holds another network"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_network_is_trained_again_with_one_notice(damage: str, ask: Asked) -> None:
    teacher = ask()
    assert ask.notices == []
    path, (change, words) = teacher.folder / "teacher.safetensors", DAMAGES[damage]
    content = path.read_bytes()
    if change is not None:
        path.write_bytes(change(content))
    elif damage == "nan":
        state = load(content)
        write_tensors(
            path, {name: tensor * float("nan") if tensor.ndim > 1 else tensor for name, tensor in state.items()}
        )
    else:
        narrow = ask(SECTION.model_copy(update={"widths": (8, 8, 8)}))
        path.write_bytes((narrow.folder / path.name).read_bytes())
    again = ask()
    assert ask.trained and torch.equal(weights(again), weights(teacher))
    (line,) = ask.notices
    assert line.startswith(str(path)) and words in line and line.endswith("The network is trained again.")
    assert path.read_bytes() == content, "the same network gives the same bytes"


class Stopped(BaseException):
    """The end of a process in the middle of a training."""


def stop_after_the_fourth(what: str, done: int, count: int) -> None:
    if done == 4:
        raise Stopped


def trained_and_interrupted(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> tuple[Teacher, str, int]:
    """Train a teacher, remove its files and stop its next training; return it, its digest and its steps of progress."""
    monkeypatch.setattr(checkpoint, "COST", 1e9)  # every epoch is written, however short it is
    whole = ask(LONGER)
    told = len(ask.told)
    shutil.rmtree(whole.folder)
    with pytest.raises(Stopped):
        ask(LONGER, progress=stop_after_the_fourth)
    return whole, digest_of_tensors(whole.network.state_dict()), told


def test_an_interrupted_training_continues_with_the_same_bits(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    _, digest, count = trained_and_interrupted(ask, monkeypatch)
    begun = time.time_ns()
    continued = ask(LONGER)
    assert digest_of_tensors(continued.network.state_dict()) == digest
    assert len(ask.told) == count  # epochs of the earlier process are told too
    early = continued.folder / store.weights_file(0.25)
    assert early.stat().st_mtime_ns < begun  # it was not trained from its first epoch
    assert not (continued.folder / store.INTERRUPTED).exists()


@pytest.mark.parametrize("lost", ["teacher-25.safetensors", "bytes"])
def test_a_training_whose_files_are_lost_begins_again(lost: str, ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, digest, _ = trained_and_interrupted(ask, monkeypatch)
    if lost == "bytes":
        path = whole.folder / store.INTERRUPTED
        path.write_bytes(path.read_bytes()[:-1])
    else:
        (whole.folder / lost).unlink()
    again = ask(LONGER)
    assert digest_of_tensors(again.network.state_dict()) == digest
    assert all((again.folder / store.weights_file(part)).exists() for part in CHECKPOINTS)
    assert len(ask.notices) == (lost == "bytes")


def test_a_state_that_a_whole_training_left_does_not_stand_in_for_a_damaged_network(
    ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "COST", 1e9)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, missing_ok=False: None)  # killed before the state is removed
        whole = ask(LONGER)
    left, damaged = whole.folder / store.INTERRUPTED, whole.folder / store.weights_file()
    assert left.exists()
    digest = digest_of_tensors(whole.network.state_dict())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    again = ask(LONGER)
    assert digest_of_tensors(again.network.state_dict()) == digest
    assert len(ask.notices) == 1 and not left.exists()


def test_a_damaged_origin_is_written_again(ask: Asked) -> None:
    path = ask().folder / "teacher.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"8", b"9", 1))
    ask()
    assert not ask.trained and path.read_bytes() == content and "is damaged" in ask.notices[0]
    ask()
    assert ask.notices == []


def test_the_copy_of_a_run_is_whole(ask: Asked, tmp_path: Path) -> None:
    teacher, run = ask(), tmp_path / "run" / "teacher"
    teacher.copy_to(run)
    kept = {name: (run / name).read_bytes() for name in ("teacher.safetensors", "teacher.json")}
    assert kept == {name: (teacher.folder / name).read_bytes() for name in kept}
    for name in kept:
        (run / name).write_bytes(kept[name][:-20])
        teacher.copy_to(run)
        assert (run / name).read_bytes() == kept[name] and name in ask.notices[-1]
    assert len(ask.notices) == 2


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


def test_a_vote_is_taken_once(ask: Asked) -> None:
    teacher = ask()
    for criterion in ("l1", "uniform"):
        assert teacher.channel_groups(criterion, seed=1) is teacher.channel_groups(criterion, seed=2)
    assert teacher.channel_groups("random", seed=1) is teacher.channel_groups("random", seed=1)
    assert teacher.channel_groups("random", seed=1) is not teacher.channel_groups("random", seed=2)


def test_a_teacher_tells_its_products_and_float32_turns_others_off(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(precision, "BFLOAT16_MACS", 1)
    by_count = ask()
    told = json.loads((by_count.folder / "teacher.json").read_text())
    assert told["products"] == "bfloat16" and ask.trained
    again = ask()
    assert not ask.trained and not ask.notices
    assert again.weights_digest == by_count.weights_digest
    asked = ask(precision="bfloat16")
    assert ask.trained and asked.weights_digest == by_count.weights_digest
    plain = ask(precision="float32")
    assert ask.trained and plain.weights_digest != by_count.weights_digest
    assert "products" not in json.loads((plain.folder / "teacher.json").read_text())
    assert {tensor.dtype for tensor in by_count.network.state_dict().values()} == {torch.float32, torch.int64}
