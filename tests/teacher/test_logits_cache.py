"""The teacher's stored answers: which numbers, when they are computed again, and when they are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.data.dataset import Dataset, Split
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import NonFiniteLossError, RequestError
from nas_compress.teacher.logits_cache import PROBE, Answers, below_maximum, cached_answers, compute_answers
from nas_compress.teacher.tensor_file import write_tensors
from teachers import small_teacher_in

GRID = 2.0**-8
"""Logits of this grid stay exact in float32 if 5,000 is added."""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset(name="digits", shift=1, train_samples=100)


class Scaled(nn.Module):
    """A module that may change while its weights, of which it has none, stay."""

    def __init__(self, factor: float = 1.0, offset: float = 0.0, classes: int = 3, change: object = None) -> None:
        super().__init__()
        self.factor, self.offset, self.classes, self.change = factor, offset, classes, change
        self.samples = 0

    def forward(self, samples: Tensor) -> Tensor:
        self.samples += len(samples)
        logits = self.factor * samples.float().flatten(1)[:, 19 : 19 + self.classes] + self.offset
        return self.change(logits, samples) if callable(self.change) else logits


@dataclass
class Kept:
    """Answers in a file, and the notices about it."""

    path: Path
    data: Dataset
    notices: list[str] = field(default_factory=list)

    def __call__(self, network: nn.Module, samples: Split | None = None, **identity: str) -> Answers:
        return cached_answers(
            self.path,
            network,
            samples or self.data.train,
            self.data.augmentation,
            self.data.task,
            identity={"weights": "none", **identity},
            name="study.toml: teacher.factory = my:net",
            remedy="return logits",
            notice=self.notices.append,
        )


@pytest.fixture
def kept(data: Dataset, tmp_path: Path) -> Kept:
    return Kept(path=tmp_path / "logits.safetensors", data=data)


def same(first: Answers, second: Answers) -> bool:
    return torch.equal(first.relative, second.relative) and torch.equal(first.maximum, second.maximum)


def test_answers_are_the_networks_in_every_view_as_differences_to_the_best_class(data: Dataset, tmp_path: Path) -> None:
    teacher = small_teacher_in(tmp_path, TeacherSection(widths=(8, 8, 16), epochs=2, learning_rate=1e-2), data)
    views, everything = data.augmentation.over(data.train.inputs), torch.arange(len(data.train))
    answers = compute_answers(teacher.network, data.train, data.augmentation, data.task)
    assert answers.relative.dtype == torch.float16 and answers.relative.shape == (9, 100, 10)
    assert not answers.relative.is_inference()
    for view in range(9):
        with torch.no_grad():
            logits = teacher.network(views.batch(everything, view)["input"])
        raw = answers.relative[view].float() + answers.maximum[view][:, None]
        torch.testing.assert_close(raw, logits, rtol=2e-3, atol=2e-3)
        assert torch.equal(answers.relative[view].argmax(dim=1), logits.argmax(dim=1))
        assert torch.equal(answers.relative[view].amax(dim=1), torch.zeros(100))
    assert not torch.equal(answers.relative[0], answers.relative[1])
    stored = load_file(teacher.folder / "logits.safetensors") if teacher.answers is not None else {}
    assert torch.equal(stored["logits"], teacher.answers) and torch.equal(stored["maximum"], answers.maximum)


def test_a_common_offset_changes_no_answer(data: Dataset) -> None:
    plain, moved = (
        compute_answers(Scaled(GRID, offset), data.train, data.augmentation, data.task) for offset in (0, 5000)
    )
    assert torch.equal(plain.relative, moved.relative)
    assert torch.equal(plain.maximum + 5000, moved.maximum)
    random = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    for offset in (-1e4, 5000.0, 3e4):  # otherwise only float32 rounds
        difference = below_maximum(random + offset)[0].float() - below_maximum(random)[0].float()
        assert float(difference.abs().max()) <= 2 * abs(offset) * 2**-23 + 4 * 2**-10


def test_differences_keep_the_range_of_float16_and_the_best_class() -> None:
    logits = torch.tensor([[3e5, 0.0, -3e38], [0.0, -1e-12, 0.0], [-3e38, 3e38, 0.0], [0.5, 0.25, -70000.0]])
    relative, maximum = below_maximum(logits)
    assert bool(torch.isfinite(relative).all())
    assert relative[0].tolist() == [0, -65504, -65504] and relative[3].tolist() == [0, -0.25, -65504]
    assert relative[1].tolist() == [0, -(2.0**-24), 0], "an almost best class is not best"
    assert maximum.tolist() == logits.amax(dim=1).tolist()


def test_stored_answers_are_read_without_another_pass(kept: Kept) -> None:
    first = kept(Scaled())
    again = Scaled()
    assert same(kept(again), first) and again.samples == PROBE and kept.notices == []


@pytest.mark.parametrize(
    "other",
    [
        Scaled(2.0),
        Scaled(offset=500.0),
        Scaled(classes=4),
        # what changed shows in one view, or in one sample of 40, only
        Scaled(
            change=lambda logits, samples: logits + 9 * (samples[:, 0, 0, :].sum(1) > 20).float()[:, None].roll(1, 1)
        ),
        Scaled(change=lambda logits, samples: logits.flip(1)),
    ],
)
def test_answers_of_changed_code_are_computed_again(other: Scaled, kept: Kept, data: Dataset) -> None:
    kept(Scaled())
    assert same(kept(other), compute_answers(other, data.train, data.augmentation, data.task))
    assert other.samples > 9 * len(data.train) and kept.notices == []


def test_every_view_is_compared(data: Dataset, tmp_path: Path) -> None:
    """A change that only one of 18 views shows is found."""
    data = replace(data, augmentation=ShiftAndFlip(shift=1, flip=True))
    kept = Kept(path=tmp_path / "logits.safetensors", data=data)
    first = kept(Scaled())
    content = kept.path.read_bytes()
    for view in range(18):
        kept.path.write_bytes(content)
        changed = first.relative.clone()
        changed[view] = first.relative[view].roll(1, dims=0)
        tensors = {"logits": changed, "maximum": first.maximum}
        write_tensors(kept.path, tensors, about={"weights": "none", "views": data.augmentation.identity})
        assert same(kept(Scaled()), first)


def test_answers_of_another_identity_or_number_of_samples_are_computed_again(kept: Kept, data: Dataset) -> None:
    kept(Scaled())
    for network, changed in ((Scaled(), {"weights": "other"}), (Scaled(), {"data": "other"})):
        kept(network, **changed)
        assert network.samples == 9 * len(data.train)
    assert kept(Scaled(), data.train.first(50)).relative.shape == (9, 50, 3)
    assert kept.notices == []


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "one bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x55"),
    "earlier version": lambda path: save_file({"logits": torch.zeros(9, 100, 3).half()}, path),
    "noise": lambda path: path.write_bytes(b"broken"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_answers_are_computed_again_with_one_notice(damage: str, kept: Kept) -> None:
    first = kept(Scaled())
    DAMAGES[damage](kept.path)
    assert same(kept(Scaled()), first)
    (line,) = kept.notices
    assert line.startswith(str(kept.path)) and line.endswith("The teacher's answers are computed again.")
    assert same(kept(Scaled()), first) and len(kept.notices) == 1


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_answers_that_are_not_finite_are_refused(wrong: float, kept: Kept, data: Dataset) -> None:
    def break_some(logits: Tensor, samples: Tensor) -> Tensor:
        logits[samples[:, 0, 4, 4] > 12, 1] = wrong
        return logits

    views, everything = data.augmentation.over(data.train.inputs), torch.arange(100)
    images = torch.stack([views.batch(everything, view)["input"] for view in range(9)])
    broken = int((images[:, :, 0, 4, 4] > 12).any(dim=0).sum())
    rule = f"the answers must be finite, but {broken} of 100 train samples have inf or nan"
    with pytest.raises(RequestError, match=f"^study.toml: teacher.factory = my:net: {rule}; return logits$"):
        kept(Scaled(change=break_some))
    assert not kept.path.exists()
    with pytest.raises(NonFiniteLossError, match=f"^{re.escape(rule)}$"):
        compute_answers(Scaled(change=break_some), data.train, data.augmentation, data.task)


@pytest.mark.slow
def test_the_number_of_threads_changes_no_answer(make_network, data: Dataset) -> None:
    """A worker has one thread and the run has several."""
    before = torch.get_num_threads()
    try:
        for family in ("resnet", "mobilenet", "vit"):
            network, found = make_network(family, shrink=1), []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                found.append(compute_answers(network, data.train, data.augmentation, data.task))
            assert same(found[0], found[1]) and same(found[0], found[2]), family
    finally:
        torch.set_num_threads(before)


def test_computing_answers_draws_no_random_number_of_a_trial(data: Dataset) -> None:
    state = torch.get_rng_state()
    noisy = Scaled(change=lambda logits, samples: logits + torch.rand(3))
    first = compute_answers(noisy, data.train, data.augmentation, data.task)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(first, compute_answers(noisy, data.train, data.augmentation, data.task))
