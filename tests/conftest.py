from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from nas_compress.config.schema import TrainingSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.models.families import build_student, family_named
from nas_compress.models.features import ObservableNetwork
from nas_compress.models.macs import count_macs
from nas_compress.search.run import run_study
from nas_compress.teacher.teacher import Teacher
from nas_compress.trial.context import TrialContext
from nas_compress.values.architecture import Architecture, Width
from running import quick_and_apart, write_study
from teachers import quick_device, small_teacher_in

MakeNetwork = Callable[..., ObservableNetwork]


@dataclass(frozen=True, kw_only=True)
class Digits:
    train: Tensor
    train_labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor


@pytest.fixture(scope="session")
def make_network() -> MakeNetwork:
    """A student whose batch statistics come from random samples; every width is a multiple of `step`."""

    def make(
        family: str,
        depths: tuple[int, ...] | None = None,
        shape: tuple[int, int, int] = (1, 8, 8),
        step: int = 8,
        shrink: int = 4,
        seed: int = 0,
    ) -> ObservableNetwork:
        torch.manual_seed(seed)
        known = family_named(family)
        depths = depths or (1,) * len(known.base_depths)
        widths = tuple(
            Width(layer=layer, asked=base, channels=max(step, base // shrink // step * step))
            for layer, base in known.layers(depths, known.base_widths)
        )
        network = build_student(
            Architecture.of_images(shape, classes=10, mean=5, std=6.0, family=family, depths=depths, widths=widths)
        )
        network.train()
        with torch.no_grad():
            for _ in range(3):
                network(random_samples(32, shape))
        return network.eval()

    return make


@pytest.fixture(scope="session")
def digits() -> Digits:
    images, labels = load_digits(return_X_y=True)
    samples = torch.tensor(images, dtype=torch.uint8).reshape(-1, 1, 8, 8)
    answers = torch.tensor(labels)
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
    train, held_out = order[540:], order[:540]
    return Digits(
        train=samples[train],
        train_labels=answers[train],
        held_out=samples[held_out],
        held_out_labels=answers[held_out],
    )


@pytest.fixture(scope="session")
def trained(make_network: MakeNetwork, digits: Digits) -> dict[str, ObservableNetwork]:
    """One network of each family after a few seconds on handwritten digits."""
    few = {family: _fit(make_network(family, depths=(1, 2, 1), shrink=2), digits) for family in ("resnet", "mobilenet")}
    # a transformer learns where things are before it learns what they are
    return few | {"vit": _fit(make_network("vit", depths=(2,), shrink=2), digits, epochs=10)}


def random_samples(count: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.randint(0, 17, (count, *shape), dtype=torch.uint8)


def _fit(network: ObservableNetwork, digits: Digits, *, epochs: int = 4) -> ObservableNetwork:
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(digits.train)).split(64):
            optimiser.zero_grad()
            F.cross_entropy(network(digits.train[batch]), digits.train_labels[batch]).backward()
            optimiser.step()
    return network.eval()


@pytest.fixture(scope="session")
def few_digits() -> Dataset:
    """Handwritten digits with 360 samples to train on, in one view."""
    return load_dataset(name="digits", shift=0, train_samples=360)


@pytest.fixture(scope="session")
def small_teacher(few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """A small residual network that was really trained, for about a second."""
    section = TeacherSection(widths=(16, 32, 64), epochs=10, learning_rate=1e-2)
    return small_teacher_in(tmp_path_factory.mktemp("teacher"), section, few_digits)


@pytest.fixture(scope="session")
def context(few_digits: Dataset, small_teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    """Trials of one epoch, with latencies that are quick instead of exact."""
    return TrialContext(
        dataset=few_digits,
        teacher=small_teacher,
        teacher_macs=count_macs(small_teacher.network, few_digits.train.first(1).inputs),
        target=quick_device(tmp_path_factory.mktemp("latency")),
        training=TrainingSection(epochs=1, batch_size=12, learning_rate=2e-2),
        budgets=(),
        device=torch.device("cpu"),
    )


@pytest.fixture(scope="session")
def vit_context(context: TrialContext, tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    """The same trials with a small transformer as the teacher."""
    section = TeacherSection(family="vit", epochs=6, learning_rate=5e-3)
    teacher = small_teacher_in(tmp_path_factory.mktemp("vit_teacher"), section, context.dataset)
    return replace(
        context, teacher=teacher, teacher_macs=count_macs(teacher.network, context.dataset.train.first(1).inputs)
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `study/` and its `run/` of five trials, some of them over budget; only to be read."""
    folder = tmp_path_factory.mktemp("finished")
    with quick_and_apart():
        study = write_study(folder / "study", extra="[budgets.size_bytes]\nat_most = 60000\n")
        run_study(study, out=folder / "run", trials=5)
    return folder
