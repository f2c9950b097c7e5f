"""Functions of the user: called on blocks, fixed by seed, and refused in one line if they break a rule."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nas_compress.data.augment import drawn_views
from nas_compress.data.augment.choose import Drawing
from nas_compress.data.augment.user_function import BLOCK
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError

NOISE = """
import torch
calls = []
def augment(images, generator):
    calls.append(images.clone())
    return (images + torch.randint(0, 9, images.shape, generator=generator)).to(images.dtype)
"""


@pytest.fixture(autouse=True)
def forget_user_modules() -> Iterator[None]:
    yield
    for name in ("my_aug", "my_later"):
        sys.modules.pop(name, None)


def load(folder: Path, text: str = NOISE, name: str = "augment", **keys: float | int) -> Dataset:
    (folder / "my_aug.py").write_text(text)
    drawing = Drawing(augment=f"my_aug:{name}", **keys)  # type: ignore[arg-type]
    return load_dataset(
        name="digits", shift=0, train_samples=100, drawing=drawing, folder=folder, where="study.toml: data.name"
    )


def calls() -> list[torch.Tensor]:
    return sys.modules["my_aug"].calls


def test_a_view_is_fixed_whatever_the_batch_and_the_order(tmp_path: Path) -> None:
    data = load(tmp_path, views=2, mixup=0.5)
    first, second = (data.augmentation.over(data.train.inputs) for _ in range(2))
    for view in (1, 0, 1):
        whole = first.batch(torch.arange(100), view)["input"]
        order = second.order(100, view, torch.Generator().manual_seed(view))
        assert sorted(order.tolist()) == list(range(100))
        for index in order.split(23):
            assert torch.equal(second.batch(index, view)["input"], whole[index])
            soft = second.targets(data.train.targets, index, view)["label"]
            assert torch.equal(soft, first.targets(data.train.targets, torch.arange(100), view)["label"][index])
    views = [first.batch(torch.arange(100), view)["input"] for view in (0, 1)]
    assert not torch.equal(*views) and views[0].dtype == torch.uint8


def test_an_epoch_calls_the_function_once_for_each_block_of_samples(tmp_path: Path) -> None:
    data = load(tmp_path, mixup=0.5)
    views = data.augmentation.over(data.train.inputs)
    orders = [views.order(100, 0, torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    assert not torch.equal(*orders)
    assert not torch.equal(views.order(100, 1, None), views.order(100, 0, None))
    for order, size in zip(orders, (23, BLOCK), strict=True):
        calls().clear()
        for index in order.split(size):
            views.batch(index, 0)
        assert sorted(map(len, calls())) == [4, BLOCK, BLOCK, BLOCK]
        found = torch.cat(calls()).flatten(1).tolist()
        assert sorted(found) == sorted(data.train.inputs["input"].flatten(1).tolist())


@pytest.mark.parametrize("blocks", [4, 2])
def test_an_epoch_that_draws_with_repetition_calls_the_function_once_for_each_block(
    blocks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawn_views, "KEPT_BYTES", blocks * BLOCK * 64)
    data = load(tmp_path, mixup=0.5, views=2)
    views, whole = (data.augmentation.over(data.train.inputs) for _ in range(2))
    for view in (0, 1, 0):
        shuffle = torch.Generator().manual_seed(view)
        drawn = torch.randint(100, (300,), generator=shuffle)
        order = views.arranged(drawn, view, shuffle)
        assert torch.equal(order.sort().values, drawn.sort().values)
        assert torch.equal(order, drawn) == (blocks == 4), "all blocks fit, or the order is one of parts"
        calls().clear()
        found = torch.cat([views.batch(index, view)["input"] for index in order.split(10)])
        assert sum(map(len, calls())) == 100, "each block was changed once"
        assert torch.equal(found, whole.batch(order, view)["input"])


def test_the_module_text_and_the_name_enter_the_fingerprint(tmp_path: Path) -> None:
    prints = {load(tmp_path).fingerprint, load(tmp_path, views=3).fingerprint}
    sys.modules.pop("my_aug")
    prints.add(load(tmp_path, NOISE + "\nother = augment\n").fingerprint)
    sys.modules.pop("my_aug")
    prints.add(load(tmp_path, NOISE + "\nother = augment\n", "other").fingerprint)
    assert len(prints) == 4


TWO_INPUTS = """
import numpy as np
from nas_compress.tasks.regression import Regression
from nas_compress.values.signature import TensorSpec
specs = tuple(TensorSpec(name=name, dtype="float32", shape=("N", 3)) for name in ("left", "right"))
def split(count):
    left, right = np.random.default_rng(count).normal(size=(2, count, 3)).astype("float32")
    return {"left": left, "right": right}, {"targets": (left * right).sum(axis=1, keepdims=True)}
def load():
    return {"task": Regression(inputs=specs, mean=(0.0,), std=(1.0,)), "train": split(40), "test": split(10)}
def augment(batch, generator):
    import my_later
    return {"left": batch["right"], "right": batch["left"]}
"""


def test_several_inputs_are_a_dict_and_later_imports_work(tmp_path: Path) -> None:
    (tmp_path / "my_aug.py").write_text(TWO_INPUTS)
    (tmp_path / "my_later.py").write_text("")
    data = load_dataset(
        factory="my_aug:load", folder=tmp_path, drawing=Drawing(augment="my_aug:augment"), where="s: data.factory"
    )
    index = torch.tensor([3, 5])
    batch = data.augmentation.over(data.train.inputs).batch(index, 0)
    assert torch.equal(batch["left"], data.train.inputs["right"][index]) and list(batch) == ["left", "right"]
    with pytest.raises(
        RequestError, match=r"^my_aug:augment must return a dict of left, right, but got a dict of left"
    ):
        (tmp_path / "my_aug.py").write_text(TWO_INPUTS.replace(', "right": batch["left"]', ""))
        sys.modules.pop("my_aug")
        load_dataset(factory="my_aug:load", folder=tmp_path, drawing=Drawing(augment="my_aug:augment"))


TORCHVISION = """
import torch
class Flip(torch.nn.Module):
    __module__ = "torchvision.transforms.v2._geometry"
    def forward(self, image):
        assert image.shape == (1, 8, 8), image.shape
        return image.flip(2) if torch.rand(()) < 0.5 else image
class Own(Flip):
    pass
augment = Own()
"""


def test_a_transform_of_torchvision_changes_each_sample_by_draws_of_its_own(tmp_path: Path) -> None:
    data = load(tmp_path, TORCHVISION)
    state = torch.get_rng_state()
    views = data.augmentation.over(data.train.inputs)
    found, plain = views.batch(torch.arange(100), 0)["input"], data.train.inputs["input"]
    mirrored = (found == plain.flip(3)).flatten(1).all(dim=1)
    assert 30 < int(mirrored.sum()) < 70
    assert bool((found == plain).flatten(1).all(dim=1)[~mirrored].all())
    assert torch.equal(torch.get_rng_state(), state), "the numbers of a trial stay as they are"
    assert torch.equal(views.batch(torch.tensor([7]), 0)["input"], found[7:8])


def test_a_real_transform_of_torchvision_works(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", exc_type=Exception)
    text = "from torchvision.transforms import v2\naugment = v2.Compose([v2.RandomCrop(8, padding=1)])"
    data = load(tmp_path, text)
    assert data.augmentation.over(data.train.inputs).batch(torch.arange(9), 0)["input"].shape == (9, 1, 8, 8)


BODY = "import torch\ndef augment(images, generator):\n    "
MISTAKES = {
    f"{BODY}return images + torch.randint(0, 9, images.shape).to(images.dtype)": "must return the same for equal "
    "generators, but input differs at a second call; draw random numbers by torch.rand(..., generator=generator)",
    f"{BODY}return images.float()": "must keep type and shape, torch.uint8 (32, 1, 8, 8), but returned torch.float32 "
    "(32, 1, 8, 8) for input",
    f"{BODY}return images[:, :, 1:]": "but returned torch.uint8 (32, 1, 7, 8) for input",
    f"{BODY}return images.numpy()": "must return a tensor, but got ndarray",
    f"{BODY}raise ValueError('no\\nway')": "must change a batch, but raised ValueError: no way",
    "def augment(images): return images": "must change a batch, but raised TypeError: augment() takes 1 positional",
    "augment = 3": "augment must name a callable, but my_aug:augment is int",
    "class augment: pass": "or a transform of torchvision, but my_aug:augment is a class; name an object of it",
    "import no_such_package": "augment must name an importable module, but 'my_aug' raised ModuleNotFoundError",
    "raise RuntimeError('operator torchvision::nms does not exist')": "but 'my_aug' raised RuntimeError: operator",
    "def augmented(images, generator): return images": "it has no 'augment'",
    TORCHVISION.replace("torch.rand(())", "__import__('random').random()"): "must return the same for equal seeds of "
    "torch, but input differs at a second call; draw random numbers from torch only",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_function_that_breaks_a_rule_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert MISTAKES[text] in message and "\n" not in message and message.endswith("(study.toml: data.augment)")


def test_a_result_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my_aug.py").write_text(TWO_INPUTS.replace('"left": batch["right"]', '"left": batch["right"] / 0'))
    (tmp_path / "my_later.py").write_text("")
    with pytest.raises(RequestError, match="must return finite values, but got inf or nan in left"):
        load_dataset(factory="my_aug:load", folder=tmp_path, drawing=Drawing(augment="my_aug:augment"))


def test_an_error_names_the_study_file_whatever_its_name(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"\(my_data\.toml: data\.augment\)$"):
        load_dataset(name="digits", drawing=Drawing(augment="no"), folder=tmp_path, where="my_data.toml: data.name")
