"""The search, verification and download of idx files, on files of a few bytes; the real files if there."""

import gzip
import hashlib
import logging
import os
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from nas_compress.data.fashion_mnist import (
    CONTENT,
    find_contents,
    parse_idx,
    search_folders,
    to_samples,
    verified_content,
)
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RunError

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
NAME = "train-images-idx3-ubyte"


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


CONTENTS = idx(IMAGES)
HASHES = {NAME: hashlib.sha256(CONTENTS).hexdigest()}


def look(*folders: Path, cache: Path, home: str = "file:///nowhere/") -> bytes:
    return find_contents(HASHES, folders=folders, download_folder=cache, home=home)[NAME]


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_an_idx_file_gives_its_array_back() -> None:
    assert np.array_equal(parse_idx(CONTENTS), IMAGES)


@pytest.mark.parametrize("content", [CONTENTS[:-1], b"\x00\x00\x0d" + CONTENTS[3:], b"\x01" + CONTENTS[1:]])
def test_what_is_no_idx_file_of_bytes_is_refused(content: bytes) -> None:
    with pytest.raises(RunError, match="must be unsigned bytes"):
        parse_idx(content)


@pytest.mark.parametrize("name", [NAME, f"{NAME}.gz"])
@pytest.mark.parametrize("level", [None, 1, 9])
def test_plain_and_recompressed_copies_pass(tmp_path: Path, name: str, level: int | None) -> None:
    write(tmp_path / name, CONTENTS if level is None else gzip.compress(CONTENTS, level))
    assert look(tmp_path, cache=tmp_path / "cache") == CONTENTS


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (gzip.compress(CONTENTS)[:-12], "cannot be read"),
        (gzip.compress(CONTENTS)[:20] + b"garbage" * 9, "cannot be read"),
        (gzip.compress(CONTENTS + b"x"), "must hold content of SHA-256"),
        (b"", "must hold content of SHA-256"),
    ],
    ids=["cut off", "garbage", "other content", "empty"],
)
def test_a_broken_file_is_named_and_the_next_place_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: bytes, reason: str
) -> None:
    bad = write(tmp_path / "first" / f"{NAME}.gz", broken)
    write(tmp_path / "second" / NAME, CONTENTS)
    with caplog.at_level(logging.WARNING, logger="nas_compress"):
        assert look(tmp_path / "first", tmp_path / "second", cache=tmp_path / "cache") == CONTENTS
    assert len(caplog.records) == 1
    assert str(bad) in caplog.text
    assert reason in caplog.text


def test_a_broken_compressed_file_does_not_hide_the_plain_one_beside_it(tmp_path: Path) -> None:
    write(tmp_path / f"{NAME}.gz", b"broken")
    write(tmp_path / NAME, CONTENTS)
    assert look(tmp_path, cache=tmp_path / "cache") == CONTENTS


def test_the_first_folder_wins_without_touching_the_rest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "first" / NAME, CONTENTS)
    write(tmp_path / "second" / NAME, b"broken")
    look(tmp_path / "first", tmp_path / "second", cache=tmp_path / "cache")
    assert not caplog.records


def test_a_file_that_is_nowhere_is_downloaded_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    source = write(home / f"{NAME}.gz", gzip.compress(CONTENTS))
    cache = tmp_path / "cache"
    assert look(cache, cache=cache, home=f"{home.as_uri()}/") == CONTENTS
    source.unlink()
    assert look(cache, cache=cache, home=f"{home.as_uri()}/") == CONTENTS
    assert [path.name for path in cache.iterdir()] == [f"{NAME}.gz"]


def test_a_download_replaces_a_broken_file_in_the_cache(tmp_path: Path) -> None:
    home, cache = tmp_path / "home", tmp_path / "cache"
    write(home / f"{NAME}.gz", gzip.compress(CONTENTS))
    kept = write(cache / f"{NAME}.gz", gzip.compress(CONTENTS)[:-12])
    assert look(cache, cache=cache, home=f"{home.as_uri()}/") == CONTENTS
    assert verified_content(kept, HASHES[NAME]) == CONTENTS


def test_a_wrong_download_leaves_nothing_behind(tmp_path: Path) -> None:
    write(tmp_path / "home" / f"{NAME}.gz", gzip.compress(b"something else"))
    cache = tmp_path / "cache"
    with pytest.raises(RunError, match="must hold content of SHA-256"):
        look(cache, cache=cache, home=f"{(tmp_path / 'home').as_uri()}/")
    assert list(cache.iterdir()) == []


def test_a_file_that_unpacks_to_more_than_the_limit_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "first" / f"{NAME}.gz", gzip.compress(bytes(50_000_001)))
    write(tmp_path / "second" / NAME, CONTENTS)
    assert look(tmp_path / "first", tmp_path / "second", cache=tmp_path / "cache") == CONTENTS
    assert "must hold at most 50,000,000 bytes" in caplog.text


def test_a_download_stops_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_compress.data.fashion_mnist.LARGEST", len(CONTENTS) - 1)
    write(tmp_path / "home" / f"{NAME}.gz", CONTENTS)
    with pytest.raises(RunError, match="must hold at most"):
        look(cache=tmp_path / "cache", home=f"{(tmp_path / 'home').as_uri()}/")
    assert list((tmp_path / "cache").iterdir()) == []


class Refusing(BaseHTTPRequestHandler):
    """A server that sends an error, and the beginning of a file."""

    def do_GET(self) -> None:
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(gzip.compress(CONTENTS)[:30])

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.mark.parametrize(("place", "reason"), [("missing", "HTTP Error 404"), ("cut", "cannot be read")])
def test_a_server_that_fails_gives_one_line(place: str, reason: str, tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(RunError, match=reason) as caught:
            look(cache=tmp_path / "cache", home=f"http://127.0.0.1:{server.server_port}/{place}/")
        server.shutdown()
    assert "\n" not in str(caught.value) and list((tmp_path / "cache").iterdir()) == []


def test_a_failed_download_names_every_folder(tmp_path: Path) -> None:
    folders = (tmp_path / "one", tmp_path / "two")
    with pytest.raises(RunError) as caught:
        look(*folders, cache=tmp_path / "cache", home=f"{tmp_path.as_uri()}/gone/")
    message = str(caught.value)
    assert all(str(folder) in message for folder in folders)
    assert "NAS_COMPRESS_DATA" in message
    assert "/gone/" in message
    assert "\n" not in message


def test_a_cache_that_cannot_be_written_is_a_run_error(tmp_path: Path) -> None:
    write(tmp_path / "home" / f"{NAME}.gz", gzip.compress(CONTENTS))
    file = write(tmp_path / "file", b"")
    with pytest.raises(RunError, match="file"):
        look(cache=file / "cache", home=f"{(tmp_path / 'home').as_uri()}/")


def test_samples_gain_a_channel_and_wide_labels() -> None:
    labels = np.array([3, 9], dtype=np.uint8)
    contents = {"t10k-images-idx3-ubyte": CONTENTS, "t10k-labels-idx1-ubyte": idx(labels)}
    images, wide = to_samples(contents, "t10k")
    assert np.array_equal(images, IMAGES.reshape(2, 1, 3, 4))
    assert wide.dtype == np.int64
    assert wide.tolist() == [3, 9]


def test_the_users_folder_comes_first_then_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_COMPRESS_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path / "cache"))
    assert search_folders() == (
        tmp_path / "mine",
        tmp_path / "mine" / "fashion-mnist",
        tmp_path / "cache" / "data" / "fashion-mnist",
        Path("/usr/share/datasets/fashion-mnist"),
    )
    monkeypatch.delenv("NAS_COMPRESS_DATA")
    assert len(search_folders()) == 2


def on_this_machine() -> bool:
    return all(
        any((folder / file).is_file() for folder in search_folders() for file in (f"{name}.gz", name))
        for name in CONTENT
    )


@pytest.mark.skipif(not on_this_machine(), reason="Fashion-MNIST is not on this machine (NAS_COMPRESS_DATA)")
def test_the_real_files_make_balanced_splits() -> None:
    data = load_dataset(name="fashion-mnist", seed=5)
    assert (len(data.train), len(data.validation), len(data.test)) == (54_000, 6_000, 10_000)
    assert data.train.targets["label"].bincount().tolist() == [5_400] * 10
    assert data.validation.targets["label"].bincount().tolist() == [600] * 10
    assert data.test.reveal(purpose="count its classes").targets["label"].bincount().tolist() == [1_000] * 10
    assert data.task.signature.input("input").sample_shape == (1, 28, 28)
    assert data.augmentation.count == 18
    # The training files' published mean and spread are 0.2860 and 0.3530 of 255.
    assert data.normalisation["input"].mean == 73
    assert data.normalisation["input"].std / 255 == pytest.approx(0.3530, abs=5e-4)


@pytest.mark.skipif(not on_this_machine(), reason="Fashion-MNIST is not on this machine (NAS_COMPRESS_DATA)")
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads peak memory from Linux")
def test_reading_needs_little_memory() -> None:
    code = (
        "import resource, nas_compress.data.load_dataset as load\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "load.load_dataset(name='fashion-mnist')\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert int(done.stdout) < 250_000
