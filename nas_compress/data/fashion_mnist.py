"""Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): found on this machine or downloaded, and verified."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import logging
import os
import struct
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_compress.data.assemble import Images, Parts, image_parts
from nas_compress.data.stratified_split import stratified_split
from nas_compress.errors import RunError, printable
from nas_compress.files import cache_folder, write_atomically

_log = logging.getLogger(__name__)

HOME = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
"""Public source. It is plain http; SHA-256 sums are therefore checked before any use."""

CONTENT: Mapping[str, str] = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of the decompressed content of each file."""

LARGEST = 50_000_000
"""Most bytes of a file, compressed or not; the largest of `CONTENT` has 47,040,016."""

_GZIP = b"\x1f\x8b"
_PIECE = 1_000_000

VALIDATION = 6_000
"""Validation samples out of 60,000; the rest is the training split."""


def read_fashion_mnist(seed: int) -> Parts:
    """Return the articles as uint8 (N, 1, 28, 28): the t10k files are the test split, `seed` divides the rest."""
    contents = find_contents(CONTENT, folders=search_folders(), download_folder=download_folder(), home=HOME)
    inputs, labels = to_samples(contents, "train")
    counts = (len(labels) - VALIDATION, VALIDATION)
    train, validation = stratified_split(labels, counts=counts, seed=seed)
    test_inputs, test_labels = to_samples(contents, "t10k")
    return image_parts(
        name="fashion-mnist",
        classes=10,
        train=(inputs[train], labels[train]),
        validation=(inputs[validation], labels[validation]),
        test=(test_inputs.copy(), test_labels),
    )


def download_folder() -> Path:
    """Return the folder for downloads."""
    return cache_folder() / "data" / "fashion-mnist"


def search_folders(name: str = "fashion-mnist") -> tuple[Path, ...]:
    """Return the folders to search for a data set: NAS_COMPRESS_DATA, the cache, the system's data sets."""
    chosen = os.environ.get("NAS_COMPRESS_DATA")
    own = (Path(chosen), Path(chosen) / name) if chosen else ()
    return (*own, cache_folder() / "data" / name, Path("/usr/share/datasets") / name)


def find_contents(
    hashes: Mapping[str, str], *, folders: Sequence[Path], download_folder: Path, home: str
) -> dict[str, bytes]:
    """Return the verified content of each file in `hashes`, from the first folder with an intact copy, else `home`.

    A broken file is skipped with a warning. RunError if the download fails too.
    """
    return {
        name: found_content(name, sha256, folders) or _downloaded(name, sha256, folders, download_folder, home)
        for name, sha256 in hashes.items()
    }


def to_samples(contents: Mapping[str, bytes], kind: str) -> Images:
    """Return images of `train` or `t10k`, uint8 (N, 1, H, W), read-only, and labels int64 (N,)."""
    images = parse_idx(contents[f"{kind}-images-idx3-ubyte"])
    labels = parse_idx(contents[f"{kind}-labels-idx1-ubyte"])
    return images[:, None], labels.astype(np.int64)


def found_content(name: str, sha256: str, folders: Sequence[Path]) -> bytes | None:
    """Return the verified content of a file, plain or compressed, from the first folder with an intact copy."""
    for path in (folder / file for folder in folders for file in (f"{name}.gz", name)):
        try:
            if path.is_file():
                return verified_content(path, sha256)
        except OSError as error:  # a folder that may not be searched
            _log.warning("%s; not used", printable(str(error)))
        except RunError as error:
            _log.warning("%s; not used", printable(str(error)))
    return None


def _downloaded(name: str, sha256: str, folders: Sequence[Path], folder: Path, home: str) -> bytes:
    target = folder / f"{name}.gz"
    url = f"{home}{target.name}"
    _log.info("downloading %s to %s", url, target)
    try:
        write_atomically(target, lambda temporary: _fetch(url, temporary, sha256))
    except (OSError, http.client.HTTPException, RunError) as error:
        looked = ", ".join(map(str, folders))
        raise RunError(
            f"{name}[.gz] must be in one of the folders {looked} (NAS_COMPRESS_DATA adds one) "
            f"or be downloadable, but {url} failed: {error}"
        ) from error
    return verified_content(target, sha256)


def _fetch(url: str, path: Path, sha256: str) -> None:
    try:
        answer = urllib.request.urlopen(url, timeout=30)
    except urllib.error.HTTPError as error:
        error.close()
        raise
    with answer as response, path.open("wb") as file:
        for piece in iter(lambda: response.read(_PIECE), b""):
            file.write(piece)
            if file.tell() > LARGEST:
                raise _too_large(url)
    verified_content(path, sha256)


def verified_content(path: Path, sha256: str) -> bytes:
    """Return the decompressed content of a file; RunError if it cannot be read, is too large or its SHA-256 differs.

    Only the decompressed content counts: plain and recompressed copies pass, under any name.
    """
    try:
        content = _decompressed(path)
    except (OSError, EOFError, zlib.error) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise RunError(f"{path} must hold content of SHA-256 {sha256[:12]}…, but got {found[:12]}…")
    return content


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """Return the array of an idx file of unsigned bytes: read-only, without a copy."""
    zeros, kind, dimensions = struct.unpack_from(">HBB", content)
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    if zeros != 0 or kind != 8 or len(content) != 4 + 4 * dimensions + int(np.prod(shape)):
        raise RunError(f"idx content must be unsigned bytes of shape {shape}, but got {len(content)} bytes")
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _decompressed(path: Path) -> bytes:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    with gzip.open(path) if packed else path.open("rb") as source:
        content = source.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise _too_large(path)
    return content


def _too_large(place: Path | str) -> RunError:
    return RunError(f"{place} must hold at most {LARGEST:,} bytes, but has more")
