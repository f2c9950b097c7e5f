import stat
from pathlib import Path

import pytest

from nas_compress.files import cache_folder, read_json, write_atomically, write_json, write_text


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


def test_others_may_read_it(tmp_path: Path) -> None:
    write_text(tmp_path / "file.txt", "")
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o644


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
