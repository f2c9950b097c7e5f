"""Masks as targets: the task that follows from them, and one line for each mistake."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError
from nas_compress.tasks.segmentation import Segmentation

CODE = """import numpy as np

images = np.random.default_rng(0).integers(0, 256, (20, 3, 6, 5), dtype=np.uint8)
masks = (images[:, 0] > 99).astype(np.int64) + (images[:, 0] > 200)
masks[:, 0, 0] = 255

def both(images, masks):
    return {"train": (images[:15], masks[:15]), "test": (images[15:], masks[15:])}

def good(): return both(images, masks)
def channel(): return both(images, masks[:, None])
def one_hot(): return both(images, (masks[:, None] == np.arange(3)[:, None, None]).astype(int))
def floats(): return both(images, masks / 255)
def smaller(): return both(images, masks[:, :4])
def negative(): return both(images, np.where(masks == 2, -1, masks))
def gap(): return both(images, np.where(masks == 2, 7, masks))
def none(): return both(images, np.full_like(masks, 255))
def white(): return both(images, np.where(masks == 0, 0, 255))
def rows(): return both(images[:, :, 0, 0], masks)
def other():
    made = both(images, masks)
    return {**made, "test": (made["test"][0], np.where(made["test"][1] == 2, 3, made["test"][1]))}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    (folder / "mask_data.py").write_text(CODE)
    sys.modules.pop("mask_data", None)
    return folder


@pytest.mark.parametrize("name", ["good", "channel"])
def test_masks_of_whole_numbers_define_a_segmentation(name: str, home: Path) -> None:
    data = load_dataset(factory=f"mask_data:{name}", folder=home)
    assert isinstance(data.task, Segmentation) and data.task.class_count == 3
    assert data.task.signature.output("logits").shape == ("N", 3, 6, 5)
    mask = data.train.targets["mask"]
    assert mask.dtype.itemsize == 1 and mask.shape[1:] == (6, 5) and bool((mask[:, 0, 0] == 255).all())
    assert len(data.validation) == round(0.15 * 15) and len(data.train) + len(data.validation) == 15


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        (
            "one_hot",
            "segmentation",
            "must be whole numbers (N, 6, 5), the class of each pixel, but got int64 (15, 3, 6, 5)",
        ),
        ("one_hot", "segmentation", "use masks.argmax(axis=1)"),
        ("floats", "segmentation", "masks of train must be whole numbers (N, 6, 5)"),
        ("smaller", None, "but got int64 (15, 4, 5)"),
        (
            "negative",
            None,
            "0 <= class < 2 (classes of train), or 255 for no label, must hold in the masks of train, but",
        ),
        ("gap", None, "the masks of train must have pixels of each class 0 to 7, but got none of class 2"),
        ("none", None, "the masks of train must have pixels of each class 0 to 1, but got none of class 0"),
        ("white", None, "got none of class 1; 255 marks pixels without a label; use masks > 0 if it means class 1"),
        ("rows", None, "masks need one input of pictures (N, C, H, W), but got input ('N', 3)"),
        ("other", None, "must hold in the masks of test, but got 3"),
    ],
)
def test_a_mistake_is_one_line(name: str, task: str | None, message: str, home: Path) -> None:
    with pytest.raises(RequestError) as caught:
        load_dataset(factory=f"mask_data:{name}", folder=home, task=task)  # type: ignore[arg-type]
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [{"shift": 1}, {"flip": True}])
def test_moving_the_picture_without_its_mask_is_refused(given: dict[str, int], home: Path) -> None:
    with pytest.raises(RequestError, match="shift, flip and crop move pixels, but mask"):
        load_dataset(factory="mask_data:good", folder=home, **given)  # type: ignore[arg-type]
