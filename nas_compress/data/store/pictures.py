"""Pictures in a folder for each class: found, decoded and resized by Pillow. This file imports no framework."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas_compress.data.store.source import Pair
from nas_compress.errors import describe, refusal

ENDINGS = frozenset(
    (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""Endings of pictures, in small letters. Other files are left out and counted."""

GREY, COLOUR = ("1", "L", "LA", "La"), ("CMYK", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "YCbCr")
"""Pillow's modes with eight bits or fewer per channel."""


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """Files that are samples. singular, plural: words for messages. endings: of their names, in small letters."""

    singular: str
    plural: str
    endings: frozenset[str]


PICTURES = FileKind(singular="picture", plural="pictures", endings=ENDINGS)

RECIPE = 1
"""Number of the way from a file to pixels; another one reads all pictures again."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Samples of one split: paths relative to the folder, and the name of the class of each.

    states: size and time of change of each file. others: files that are no samples.
    """

    files: tuple[str, ...]
    classes: tuple[str, ...]
    states: tuple[str, ...]
    others: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def in_random_order(self) -> Listing:
        """Return the samples in a fixed order that mixes the classes."""
        order = np.random.default_rng(0).permutation(len(self)).tolist()
        return Listing(
            files=tuple(self.files[index] for index in order),
            classes=tuple(self.classes[index] for index in order),
            states=tuple(self.states[index] for index in order),
            others=self.others,
        )


def list_files(root: Path, folder: str, where: str, kind: FileKind = PICTURES) -> Listing:
    """Find the samples in the folders of the classes, in the order of their names.

    root: of the paths. folder: the folder of classes, relative to `root`, "" for `root` itself. RequestError if there
    are no folders, or if one has no samples.
    """
    files: list[str] = []
    classes: list[str] = []
    states: list[str] = []
    others: list[str] = []
    for name in class_folders(root / folder):
        before = len(files)
        for path in files_below(root / folder / name):
            shown = path.relative_to(root).as_posix()
            if path.suffix.lower() not in kind.endings:
                others.append(shown)
                continue
            try:
                found = path.stat()
            except OSError as error:  # a link to nothing
                raise _broken(shown, error, where) from error
            files.append(shown)
            classes.append(name)
            states.append(f"{found.st_size} {found.st_mtime_ns}")
        if len(files) == before:
            rule = f"every folder of a class must hold {kind.plural}"
            raise refusal(f"{rule}, but {root / folder / name} has none", where)
    if not files:
        rule = f"{root / folder} must hold a folder of {kind.plural} for each class"
        raise refusal(f"{rule}, but it has no folders", where)
    return Listing(files=tuple(files), classes=tuple(classes), states=tuple(states), others=tuple(others))


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones."""
    return sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


@dataclass(frozen=True, kw_only=True)
class PictureSource:
    """Pictures of one size, with the number of their class.

    root: of the files. labels: number of the class of each file. size: pixels of a side.
    """

    root: str
    files: tuple[str, ...]
    labels: tuple[int, ...]
    size: int
    where: str

    def open(self) -> PictureReader:
        """Return a reader."""
        return PictureReader(self)

    def identity(self, states: Sequence[str]) -> str:
        """Return the digest of names, labels and states of the files and of the way to pixels."""
        digest = hashlib.sha256(f"pictures {RECIPE} {self.size} {PIL.__version__}\n".encode())
        for file, label, state in zip(self.files, self.labels, states, strict=True):
            digest.update(f"{file} {label} {state}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


class PictureReader:
    """Pixels uint8 (C, size, size) and labels; one channel if all pictures are grey, else three."""

    def __init__(self, source: PictureSource) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source.files)

    def read(self, index: int) -> Pair:
        """Return a picture and its label; RequestError with the name of a broken file."""
        source = self._source
        pixels = decoded(Path(source.root), source.files[index], mode=self.mode, size=source.size, where=source.where)
        return pixels, np.asarray(source.labels[index], dtype=np.int64)

    @cached_property
    def mode(self) -> str:
        """L if all pictures are grey, else RGB; reads the headers up to the first picture in colour."""
        source = self._source
        for file in source.files:
            if _mode(Path(source.root), file, source.where) in COLOUR:
                return "RGB"
        return "L"


def decoded(root: Path, file: str, *, mode: str, size: int, where: str) -> NDArray[np.uint8]:
    """Return a picture uint8 (C, size, size), turned as its camera says and cropped to a square about its middle.

    mode: L or RGB. RequestError with the file's name if it is broken or has more than eight bits per channel.
    """
    try:
        with Image.open(root / file) as picture:
            _require_mode(picture.mode, file, where)
            picture.draft(mode, (2 * size, 2 * size))  # a JPEG is decoded at a fraction of its size
            whole: Image.Image = picture
            if picture.mode in ("P", "PA"):
                whole = picture.convert("RGBA")
            turned = ImageOps.exif_transpose(whole.convert(mode))
            square = ImageOps.fit(turned, (size, size), method=Image.Resampling.BILINEAR)
            pixels = np.asarray(square, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, Image.DecompressionBombError) as error:
        raise _broken(file, error, where) from error
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def sizes_of(root: Path, files: Sequence[str], where: str) -> list[int]:
    """Return the shorter side of each picture, in pixels."""
    found = []
    for file in files:
        try:
            with Image.open(root / file) as picture:
                found.append(min(picture.size))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise _broken(file, error, where) from error
    return found


def _mode(root: Path, file: str, where: str) -> str:
    try:
        with Image.open(root / file) as picture:
            mode: str = picture.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _broken(file, error, where) from error
    _require_mode(mode, file, where)
    return mode


def _require_mode(mode: str, file: str, where: str) -> None:
    if mode not in GREY + COLOUR:
        raise refusal(f"a picture must have 8 bits per channel, but {file} has Pillow's mode {mode}", where)


def _broken(file: str, error: Exception, where: str) -> Exception:
    return refusal(f"every picture must be readable, but {file} is not: {describe(error)}; remove or replace it", where)


def files_below(folder: Path) -> list[Path]:
    """Return the files in a folder and below, sorted, without hidden ones."""
    found = []
    for place, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        found += [Path(place, name) for name in sorted(files) if not name.startswith(".")]
    return found
