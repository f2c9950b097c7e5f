"""Folders of pictures: found, divided, decoded once, and refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.store import build
from nas_compress.errors import RequestError
from nas_compress.tasks.classification import Classification
from nas_compress.tasks.memory_map import MappedTensor

WHERE = "study.toml: data.folder"
RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path / "cache"))
    yield tmp_path


def paint(folder: str, count: int, colour: int | tuple[int, int, int], *, size: tuple[int, int] = (12, 10)) -> None:
    """Write pictures of one colour, with the number of the picture in the first pixel."""
    Path(folder).mkdir(parents=True)
    for number in range(count):
        picture = Image.new("L" if isinstance(colour, int) else "RGB", size, colour)
        picture.putpixel((0, 0), number if isinstance(colour, int) else (number, number, number))
        picture.save(Path(folder) / f"{number}.png")


def load(folder: str = "photos", **choices: object) -> Dataset:
    return load_dataset(pictures=folder, where=WHERE, **{"image_size": 10, **choices})  # type: ignore[arg-type]


def refused(folder: str = "photos") -> str:
    with pytest.raises(RequestError) as caught:
        load(folder)
    assert "\n" not in str(caught.value) and WHERE in str(caught.value)
    return str(caught.value)


def test_a_folder_for_each_class_is_divided_and_its_classes_keep_their_names() -> None:
    paint("photos/red", 40, RED)
    paint("photos/green", 60, GREEN, size=(10, 30))
    data = load()
    assert isinstance(data.task, Classification) and data.task.class_names == ("green", "red")
    assert data.task.signature.input("input").sample_shape == (3, 10, 10)
    test = data.test.reveal(purpose="count")
    assert [len(split) for split in (data.train, data.validation, test)] == [70, 15, 15]
    assert [split.targets["label"].bincount().tolist() for split in (data.validation, test)] == [[9, 6], [9, 6]]
    for image, label in zip(data.train.inputs["input"], data.train.targets["label"].tolist(), strict=True):
        assert image[:, 5, 5].tolist() == [*((255, 0, 0) if label else (0, 255, 0))]
    assert 2 < data.train.targets["label"][:20].sum() < 18, "the first samples must be of both classes"


def test_folders_of_splits_are_kept_and_a_missing_one_is_drawn() -> None:
    for split, count in (("train", 40), ("val", 4), ("test", 6)):
        paint(f"photos/{split}/a", count, 50)
        paint(f"photos/{split}/b", count, 200)
    data = load()
    assert [len(data.train), len(data.validation), len(data.test)] == [80, 8, 12]
    assert data.task.signature.input("input").sample_shape == (1, 10, 10)
    for path in sorted(Path("photos/val").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    Path("photos/val").rmdir()
    assert [len(each) for each in (load().train, load().validation, load().test)] == [68, 12, 12]


def test_pictures_are_decoded_once_and_again_after_a_change() -> None:
    paint("photos/a", 20, RED)
    paint("photos/b", 20, GREEN)
    first = load()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas_compress.data.store.pictures.decoded", None)
        assert load().fingerprint == first.fingerprint
    Image.new("RGB", (12, 10), (1, 2, 3)).save("photos/a/3.png")
    assert load().fingerprint != first.fingerprint
    assert load(image_size=8).task.signature.input("input").sample_shape == (3, 8, 8)


def test_large_folders_stay_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    paint("photos/a", 20, RED)
    paint("photos/b", 20, GREEN)
    resident = load()
    monkeypatch.setattr("nas_compress.data.array_conversion.RESIDENT", 100)
    mapped = load()
    assert isinstance(mapped.train.inputs["input"], MappedTensor)
    for found, expected in ((mapped.train, resident.train), (mapped.validation, resident.validation)):
        assert torch.equal(found.inputs["input"][:], expected.inputs["input"])
        assert torch.equal(found.targets["label"], expected.targets["label"])
    assert mapped.normalisation == resident.normalisation and mapped.fingerprint == load().fingerprint


def test_other_processes_read_the_same_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    paint("photos/a", 20, RED)
    paint("photos/b", 20, GREEN)
    alone = load()
    monkeypatch.setattr("nas_compress.data.store.block.MOST_ROWS", 10)  # four blocks
    monkeypatch.setattr(build, "ALONE_S", 0.0)
    monkeypatch.setattr(build, "WORTH_S", 0.0)
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(Path("other").absolute()))
    assert load().fingerprint == alone.fingerprint


def test_a_picture_is_turned_cropped_and_shrunk() -> None:
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:, 10:20] = 255  # a white stripe left of the middle
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 3  # upside down
    for name, picture, more in (("a", Image.fromarray(pixels), {}), ("b", turned, {"exif": exif})):
        Path("photos", name).mkdir(parents=True)
        for number in range(20):
            picture.save(f"photos/{name}/{number}.png", **more)
    data = load()
    for name, left in (("a", 255), ("b", 0)):
        image = data.train.inputs["input"][data.train.targets["label"] == "ab".index(name)][0]
        assert image.shape == (3, 10, 10) and image[0, 5, [2, 7]].tolist() == [left, 255 - left]


def test_other_files_are_left_out_with_a_line() -> None:
    paint("photos/a", 20, RED)
    paint("photos/b", 20, GREEN)
    Path("photos/a/notes.txt").write_text("mine")
    Path("photos/a/.DS_Store").write_text("theirs")
    lines: list[str] = []
    load(notice=lines.append)
    assert len(lines) == 1 and lines[0].endswith("photos are no pictures and are left out, such as a/notes.txt")


def _broken() -> None:
    Path("photos/a/7.png").write_bytes(Path("photos/a/7.png").read_bytes()[:40])


def _no_picture() -> None:
    Path("photos/a/x.jpg").write_text("no picture")


def _link_to_nothing() -> None:
    Path("photos/a/x.png").symlink_to("nowhere.png")


def _deep() -> None:
    Image.new("I;16", (12, 10)).save("photos/a/7.png")


def _empty() -> None:
    Path("photos/c").mkdir()


def _few() -> None:
    paint("photos/c", 2, RED)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_broken, "every picture must be readable, but a/7.png is not"),
        (_no_picture, "every picture must be readable, but a/x.jpg is not: UnidentifiedImageError"),
        (_link_to_nothing, "every picture must be readable, but a/x.png is not: FileNotFoundError"),
        (_deep, "must have 8 bits per channel, but a/7.png has Pillow's mode I;16"),
        (_empty, "photos/c has none"),
        (_few, "validation must have at least 1 picture of each class, but got 0 of 'c'; add pictures"),
    ],
)
def test_folders_that_are_refused(spoil: Callable[[], None], words: str) -> None:
    paint("photos/a", 20, RED)
    paint("photos/b", 20, GREEN)
    spoil()
    assert words in refused()


@pytest.mark.parametrize("more", ["more/a", "training/a"])
def test_splits_are_never_taken_for_classes(more: str) -> None:
    for name in ("train/a", "train/b", "test/a", "test/b", more):
        paint(f"photos/{name}", 3, RED)
    words = "folders of splits must be one each of train, validation and test, without others, but got"
    assert words in refused()


def test_classes_may_have_names_of_splits() -> None:
    paint("photos/train", 20, RED)
    paint("photos/test", 20, GREEN)
    task = load().task
    assert isinstance(task, Classification) and task.class_names == ("test", "train")


def test_folders_without_classes_are_refused() -> None:
    assert "there is none at" in refused("nowhere")
    paint("flat", 3, RED)
    assert "must hold a folder of pictures for each class, but it has no folders" in refused("flat")
    paint("one/a", 3, RED)
    assert "at least 2 folders of classes, but got a" in refused("one")
    for name in ("train/a", "train/b", "test/a", "test/c"):
        paint(f"other/{name}", 20, RED)
    assert "every split must hold the classes of train, but b differs in test" in refused("other")
