"""A checkpoint is restored as a whole, or not at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_compress.data.augment.choose import Drawing, drawn
from nas_compress.data.augment.protocol import NoAugmentation
from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.data.dataset import Split
from nas_compress.errors import UnfitCheckpointError
from nas_compress.losses.table import TASK_LOSS
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.tasks.batch import Batch
from nas_compress.tasks.classification import Classification
from nas_compress.training.checkpoint import Checkpoint
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective
from nas_compress.training.precision import Products, mixed_precision
from nas_compress.training.random_state import kept_random_states, random_states, seed_all
from nas_compress.training.sparsity import Sparsifier

EPOCHS = 3


class Squares:
    """Mean squared output plus a number from each random generator."""

    learners: tuple[nn.Module, ...] = ()

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Batch, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        drawn = float(torch.rand(())) + float(np.random.random()) + random.random()
        with mixed_precision(batch["input"].device):
            answer = model(batch["input"])
        return {"squares": (answer.float() - drawn).square().mean()}


class Cut(BaseException):
    pass


def fit(
    path: Path,
    notices: list[str],
    *,
    width: int = 4,
    epochs: int = EPOCHS,
    cut: int | None = None,
    products: Products = "float32",
) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))
    seed_all(1)
    samples = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))

    def after(done: int, terms: Mapping[str, float]) -> None:
        if cut is not None and done == cut + 1:
            raise Cut

    train(
        model,
        Split(name="train", inputs={"input": samples}, targets={"label": torch.zeros(16)}),
        NoAugmentation(),
        objective=Squares(),
        epochs=epochs,
        batch_size=4,
        learning_rate=0.01,
        weight_decay=0.0,
        seed=0,
        macs=1,
        products=products,
        sparsifier=Sparsifier(model, pattern="targeted_weight", fraction=0.5, seed=0),
        checkpoint=Checkpoint(path=path, identity={"candidate": "a"}, notice=notices.append),
        on_epoch=after,
    )
    return model


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.fixture(autouse=True)
def _every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_compress.training.checkpoint.COST", float("inf"))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The checkpoint of a training that was cut in its third epoch."""
    with pytest.raises(Cut):
        fit(tmp_path / "state.pt", [], cut=2)
    return tmp_path / "state.pt"


def test_every_random_generator_continues(saved: Path, tmp_path: Path) -> None:
    seed_all(99)
    notices: list[str] = []
    assert torch.equal(weights(fit(saved, notices)), weights(fit(tmp_path / "whole.pt", notices)))
    assert notices == []


def test_a_training_with_bfloat16_products_continues_with_the_same_bits(tmp_path: Path) -> None:
    whole = weights(fit(tmp_path / "whole.pt", [], products="bfloat16"))
    with pytest.raises(Cut):
        fit(tmp_path / "cut.pt", [], cut=1, products="bfloat16")
    assert torch.equal(weights(fit(tmp_path / "cut.pt", [], products="bfloat16")), whole)
    assert not torch.equal(weights(fit(tmp_path / "float32.pt", [])), whole)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[:-100],
    "one bit": lambda content: content[:400] + bytes([content[400] ^ 8]) + content[401:],
    "empty": lambda content: b"",
    "earlier version": lambda content: content.partition(b"\n")[2],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_left_out_with_a_notice(damage: str, saved: Path, tmp_path: Path) -> None:
    saved.write_bytes(DAMAGES[damage](saved.read_bytes()))
    notices: list[str] = []
    again = fit(saved, notices)
    (line,) = notices
    assert line.startswith(f"{saved} is damaged: ") and line.endswith(". The training begins at its first epoch.")
    assert torch.equal(weights(again), weights(fit(tmp_path / "whole.pt", notices)))


def rewritten(path: Path, change: Callable[[dict[str, Any]], object], **given: int) -> str:
    """Restore a whole checkpoint with other values; the error. The network must stay as it was made."""
    with pytest.MonkeyPatch.context() as patch:
        read = Checkpoint._read

        def changed(self: Checkpoint) -> dict[str, Any] | None:
            found = read(self)
            assert found is not None
            change(found["current"])
            return found

        patch.setattr(Checkpoint, "_read", changed)
        patch.setattr("nas_compress.training.checkpoint.TrainingState.restore", lambda *given: pytest.fail("restored"))
        with pytest.raises(UnfitCheckpointError) as caught:
            fit(path, [], **given)
    assert str(caught.value).startswith(f"{path} does not fit the training (")
    return str(caught.value)


def test_a_state_that_does_not_fit_is_refused_before_anything_is_restored(saved: Path) -> None:
    def nan(state: dict[str, Any]) -> None:
        state["learners"]["0.0.weight"][0, 0] = torch.nan

    def moments(state: dict[str, Any]) -> None:
        state["optimizer"]["state"][0]["exp_avg"] = torch.zeros(3)

    assert "learners" not in rewritten(saved, lambda state: None, width=5)
    assert "it has 2 of 1 epochs" in rewritten(saved, lambda state: None, epochs=1)
    assert "a weight is infinite or nan" in rewritten(saved, nan)
    assert "exp_avg" in rewritten(saved, moments)
    assert "shuffle" in rewritten(saved, lambda state: state.update(shuffle=torch.zeros(3)))
    assert "masks" in rewritten(saved, lambda state: state["sparsifier"].update(masks=[torch.ones(2, 2)]))
    assert "KeyError" in rewritten(saved, lambda state: state.pop("optimizer"))


def test_work_of_a_cache_leaves_the_random_states() -> None:
    seed_all(5)
    before = random_states(torch.device("cpu"))
    with kept_random_states(torch.device("cpu")):
        seed_all(6)
        torch.rand(3), np.random.random(3), random.random()
    after = random_states(torch.device("cpu"))
    assert torch.equal(before["torch"]["cpu"], after["torch"]["cpu"])
    assert before["numpy"] == after["numpy"] and before["python"] == after["python"]


def test_a_cut_training_continues_with_the_views_of_its_epochs(tmp_path: Path) -> None:
    """Views and mixed targets follow from the number of the epoch, not from random numbers of the process."""
    task = Classification.of_images(shape=(1, 4, 4), classes=2)
    augmentation = drawn(ShiftAndFlip(shift=1), Drawing(mixup=1.0, cutmix=1.0, views=3), task=task, seed=0)
    images = torch.randint(0, 256, (24, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    samples = Split(name="train", inputs={"input": images}, targets={"label": torch.arange(24) % 2})

    class Pixels(nn.Linear):
        def forward(self, batch: Tensor) -> Tensor:
            return super().forward(batch.flatten(1).float() / 256)

    def fit_cut(path: Path, cut: int | None) -> Tensor:
        torch.manual_seed(0)
        model = Pixels(16, 2)

        def after(done: int, terms: Mapping[str, float]) -> None:
            if done == cut:
                raise Cut

        train(
            model, samples, augmentation, objective=LossObjective(TrainingLoss(task, TASK_LOSS)), epochs=5,
            batch_size=7, learning_rate=0.01, weight_decay=0.0, seed=0, macs=1, on_epoch=after,
            checkpoint=Checkpoint(path=path, identity={"candidate": "a"}),
        )  # fmt: skip
        return weights(model)

    for cut in (3, 5):
        with pytest.raises(Cut):
            fit_cut(tmp_path / "state.pt", cut)
    assert torch.equal(fit_cut(tmp_path / "state.pt", None), fit_cut(tmp_path / "whole.pt", None))
