"""Damage to the bytes of any file, and to files and folders as a whole."""

from __future__ import annotations

import os
import shutil

from target import OUTSIDE, Target


def truncate(target: Target) -> None:
    target.write(target.content[: target.random.randrange(len(target.content))])


def empty(target: Target) -> None:
    target.write(b"")


def flip_bit(target: Target) -> None:
    content = bytearray(target.content)
    content[target.random.randrange(len(content))] ^= 1 << target.random.randrange(8)
    target.write(bytes(content))


def null_bytes(target: Target) -> None:
    """Zero a block, as after a power cut."""
    content = bytearray(target.content)
    start = target.random.randrange(len(content))
    end = min(len(content), start + target.random.choice([1, 64, 4096, len(content)]))
    content[start:end] = bytes(end - start)
    target.write(bytes(content))


def double(target: Target) -> None:
    target.write(target.content * 2)


def garbage(target: Target) -> None:
    target.write(target.random.randbytes(max(16, len(target.content))))


def append(target: Target) -> None:
    target.write(target.content + target.random.randbytes(7))


def swap(target: Target) -> None:
    """Put another file of the same kind there."""
    shutil.copyfile(target.other(), target.path)


def delete(target: Target) -> None:
    shutil.rmtree(target.path) if target.path.is_dir() else target.path.unlink()


def folder_instead(target: Target) -> None:
    target.path.unlink()
    target.path.mkdir()
    (target.path / "file").write_text("x")


def link_to_the_same(target: Target) -> None:
    """Move the file out of the run and leave a link."""
    shutil.move(target.path, target.outside)
    target.path.symlink_to(target.outside)


def link_to_another(target: Target) -> None:
    shutil.copyfile(target.other(), target.outside)
    target.path.unlink()
    target.path.symlink_to(target.outside)


def link_to_nothing(target: Target) -> None:
    delete(target)
    target.path.symlink_to(target.place / OUTSIDE / "nothing")


def pipe(target: Target) -> None:
    """Put a pipe there, whose reader waits for ever."""
    target.path.unlink()
    os.mkfifo(target.path)


def unreadable(target: Target) -> None:
    target.path.chmod(0)


def file_instead(target: Target) -> None:
    shutil.rmtree(target.path)
    target.path.write_text("x")


def emptied(target: Target) -> None:
    shutil.rmtree(target.path)
    target.path.mkdir()


def read_only(target: Target) -> None:
    target.path.chmod(0o555)
