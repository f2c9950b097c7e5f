import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import nas_compress
from nas_compress.errors import DamagedFileError, RunError
from nas_compress.files import (
    FileLock,
    append_text,
    cache_folder,
    digest_of_file,
    in_use,
    read_json,
    read_sealed_bytes,
    read_sealed_json,
    writable_cache_folder,
    write_atomically,
    write_json,
    write_sealed_bytes,
    write_sealed_json,
    write_text,
)


def test_a_file_is_whole_or_as_before(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old ä")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text(encoding="utf-8") == "old ä"
    assert list(path.parent.iterdir()) == [path]


def test_nothing_lies_there_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"

    def look(temporary: Path) -> None:
        assert temporary.parent == path.parent and not path.exists()
        temporary.write_text("new")

    write_atomically(path, look)
    assert path.read_text() == "new"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755), (2, 0o664, 0o775)])
def test_permissions_follow_the_umask_and_nobody_else_reads_an_unfinished_file(
    mask: int, file: int, folder: int, tmp_path: Path
) -> None:
    path, unfinished = tmp_path / "new" / "file.txt", []

    def write(temporary: Path) -> None:
        unfinished.append(mode(temporary))
        temporary.write_text("new")

    before = os.umask(mask)
    try:
        write_atomically(path, write)
        FileLock(path.with_name("lock"))
    finally:
        os.umask(before)
    assert unfinished == [0o600]
    assert mode(path) == mode(path.with_name("lock")) == file and mode(path.parent) == folder


def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null"), Path("/dev/stdout"), Path("/dev/new")):
        with pytest.raises(OSError, match="not a regular file") as caught:
            write_text(path, "new")
        assert caught.value.filename == str(path)
    assert Path("/dev/null").is_char_device() and [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_json, read_sealed_json, read_sealed_bytes):
        with pytest.raises(OSError, match="not a regular file"):
            read(tmp_path / "pipe")


def test_text_is_appended_to_files_only(tmp_path: Path) -> None:
    for text in ("one\n", "two\n"):
        append_text(tmp_path / "file", text)
    assert (tmp_path / "file").read_text() == "one\ntwo\n"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match=r"not a regular file|a link instead of a file"):
            append_text(tmp_path / name, "three\n")
    assert (tmp_path / "file").read_text() == "one\ntwo\n"


def test_an_error_names_the_file_and_not_its_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"folder'$") as caught:
        write_text(tmp_path / "folder", "new")
    assert caught.value.filename == str(tmp_path / "folder")
    with pytest.raises(OSError, match="File name too long"):
        write_text(tmp_path / ("x" * 300), "new")
    write_text(tmp_path / ("ä" * 127), "a name of 254 bytes")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "ä" * 127]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("old")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "dangling").symlink_to("nothing")
    for name in ("link", "dangling"):
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new" and not (tmp_path / name).is_symlink()
    assert (tmp_path / "kept").read_text() == "old" and not (tmp_path / "nothing").exists()


def test_text_of_a_path_that_is_no_utf_8_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / "page", os.fsdecode(b"a \xff \xc3\xa4"))
    assert (tmp_path / "page").read_text(encoding="utf-8") == r"a \udcff ä"


def test_json_comes_back(tmp_path: Path) -> None:
    values = {"a": [1, 2.5, None], "b": {"c": True}}
    write_json(tmp_path / "x.json", values)
    assert read_json(tmp_path / "x.json") == values
    assert (tmp_path / "x.json").read_text().endswith("}\n")


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    for value in ("", None):
        if value is None:
            monkeypatch.delenv("NAS_COMPRESS_CACHE")
        else:
            monkeypatch.setenv("NAS_COMPRESS_CACHE", value)
        assert cache_folder().name == "nas_compress"


def test_a_cache_folder_that_cannot_be_written_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path / "new" / "cache"))
    assert writable_cache_folder() == tmp_path / "new" / "cache"
    assert list((tmp_path / "new" / "cache").iterdir()) == []
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "cache", Path("/dev/full"), Path("/sys/nothing")):
        monkeypatch.setenv("NAS_COMPRESS_CACHE", str(place))
        with pytest.raises(RunError, match=f"Cannot write the cache folder {place}: .+ Set NAS_COMPRESS_CACHE to"):
            writable_cache_folder()


def test_a_lock_is_shared_by_many_or_exclusive_to_one(tmp_path: Path) -> None:
    first, second, third = (FileLock(tmp_path / "new" / "lock") for _ in range(3))
    assert first.take(shared=True) and second.take(shared=True) and not third.take()
    first.release()
    assert not third.take()
    second.release()
    assert third.take() and not first.take(shared=True)
    assert not first.wait(0.01, shared=True)
    third.close()
    assert first.wait(0.01, shared=True)


def test_releasing_a_lock_that_is_not_held_leaves_others_alone(tmp_path: Path) -> None:
    first, second, third = (FileLock(tmp_path / "lock") for _ in range(3))
    assert first.take() and not second.take()
    second.release()
    assert not third.take()


IMPORT_ALL = """
import builtins, importlib, pkgutil

POSIX_ONLY = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
own = builtins.__import__

def portable(name, globals=None, locals=None, fromlist=(), level=0):
    if name in POSIX_ONLY and (globals or {}).get("__name__", "").startswith("nas_compress"):
        raise ModuleNotFoundError(f"No module named {name!r}")
    return own(name, globals, locals, fromlist, level)

builtins.__import__ = portable
import nas_compress
names = [info.name for info in pkgutil.walk_packages(nas_compress.__path__, "nas_compress.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


def test_every_module_imports_without_modules_of_posix(tmp_path: Path) -> None:
    source = {"PYTHONPATH": str(Path(nas_compress.__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, cwd=tmp_path, env=os.environ | source
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 150


def test_sealed_values_come_back(tmp_path: Path) -> None:
    values = {"b": [1, 2.5, None, 1e-300], "a": {"c": True, "ä": "é"}}
    write_sealed_json(tmp_path / "x.json", values)
    assert read_sealed_json(tmp_path / "x.json") == values


def test_every_changed_byte_of_sealed_values_is_found_or_changes_nothing(tmp_path: Path) -> None:
    path, values = tmp_path / "x.json", {"accuracy": 0.9876, "name": "digits", "depths": [1, 2], "none": None}
    write_sealed_json(path, values)
    content = path.read_bytes()
    for place in range(len(content)):
        for changed in (content[place] ^ 1, 0x20, 0x00):
            path.write_bytes(content[:place] + bytes([changed]) + content[place + 1 :])
            try:
                assert read_sealed_json(path) == values
            except DamagedFileError as error:
                assert str(path) in str(error) and "\n" not in str(error)


def test_values_without_a_checksum_are_read_if_they_may_be(tmp_path: Path) -> None:
    write_json(tmp_path / "old.json", {"a": 1})
    assert read_sealed_json(tmp_path / "old.json", required=False) == {"a": 1}
    with pytest.raises(DamagedFileError, match="no checksum"):
        read_sealed_json(tmp_path / "old.json")


@pytest.mark.parametrize("text", ["", "[1]", "[" * 100_000, '{"a": ' * 50_000, '{"a": ' + "9" * 5000 + "}", "\x00"])
def test_other_files_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DamagedFileError, match=r"^[^\n]+ is damaged: [^\n]+$"):
        read_sealed_json(tmp_path / "x.json", required=False)


@pytest.mark.parametrize("depth", range(880, 1000, 7))
def test_values_near_the_deepest_nesting_are_read_or_refused(tmp_path: Path, depth: int) -> None:
    (tmp_path / "x.json").write_text('{"sha256": "0", "a": ' + "[" * depth + "]" * depth + "}")
    with pytest.raises(DamagedFileError, match="is damaged"):
        read_sealed_json(tmp_path / "x.json")


def test_a_lock_shows_whether_its_file_is_in_place(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.take() and lock.in_place()
    (tmp_path / "lock").unlink()
    assert not lock.in_place()
    (tmp_path / "lock").write_text("of another process")
    assert not lock.in_place()


def test_nothing_is_created_below_a_removed_folder_in_use(tmp_path: Path) -> None:
    root = tmp_path / "run"
    lock = FileLock(root / ".lock")
    with in_use(root, lock):
        write_text(root / "a" / "b.txt", "x")
        shutil.rmtree(root)
        for write in (lambda: write_text(root / "a" / "b.txt", "x"), lambda: FileLock(root / "c" / "lock")):
            with pytest.raises(RunError, match=rf"^{root} was removed or replaced [^\n]+$"):
                write()
        write_text(tmp_path / "run-2" / "b.txt", "x")
    assert not root.exists()
    write_text(root / "b.txt", "x")


def test_sealed_bytes_are_those_written(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    write_sealed_bytes(path, b"one\ntwo")
    assert read_sealed_bytes(path) == b"one\ntwo"
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole + b"x", b"", whole[:-1] + b"x", b"x" + whole[1:]):
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match="checksum"):
            read_sealed_bytes(path)


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")  # the example of FIPS 180-2, B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of_file(tmp_path / "x") == expected
