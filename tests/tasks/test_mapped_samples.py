"""Samples in a memory map behave like a tensor, and only the rows in use are in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nas_compress.errors import DamagedFileError
from nas_compress.tasks.batch import chosen, rows, split, to_arrays, to_device, to_rows
from nas_compress.tasks.memory_map import MappedRows, MappedTensor, pieces_of, rows_at


@pytest.fixture
def pair(tmp_path: Path) -> tuple[MappedTensor, torch.Tensor]:
    """The same 100 images in a memory map and in memory."""
    values = np.random.default_rng(0).integers(0, 255, (100, 3, 4, 5), dtype=np.uint8)
    np.save(tmp_path / "images.npy", values)
    return MappedTensor(MappedRows(np.load(tmp_path / "images.npy", mmap_mode="r"))), torch.from_numpy(values)


def test_rows_are_copied_as_from_memory(pair: tuple[MappedTensor, torch.Tensor]) -> None:
    mapped, plain = pair
    index = torch.tensor([5, 99, 0, 5])
    with torch.inference_mode():
        for found, expected in [
            (mapped.index_select(0, index), plain.index_select(0, index)),
            (mapped[3:20], plain[3:20]),
            (mapped[-2:], plain[-2:]),
            (mapped[index], plain[index]),
            (mapped[-1], plain[-1]),
            (rows({"input": mapped}, 90, 120)["input"], plain[90:]),
            (chosen({"input": mapped}, index)["input"], plain[index]),
        ]:
            assert type(found) is torch.Tensor and torch.equal(found, expected)
    assert (len(mapped), mapped.shape, mapped.dtype) == (100, plain.shape, torch.uint8)


def test_other_operations_read_everything(pair: tuple[MappedTensor, torch.Tensor]) -> None:
    mapped, plain = pair
    assert torch.equal(mapped.float(), plain.float())
    assert torch.equal(mapped[:, 1], plain[:, 1])
    assert torch.equal(F.pad(mapped, (1, 1)), F.pad(plain, (1, 1)))
    assert np.array_equal(to_arrays({"input": mapped})["input"], plain.numpy())


def test_moves_and_conversions_to_arrays_read_nothing(pair: tuple[MappedTensor, torch.Tensor]) -> None:
    mapped, _ = pair
    assert isinstance(mapped.detach(), MappedTensor) and isinstance(mapped.to("meta"), MappedTensor)
    assert isinstance(to_device({"input": mapped}, "cpu")["input"], MappedTensor)
    assert isinstance(to_rows({"input": mapped})["input"], MappedRows)


def test_batches_are_made_one_after_the_other(pair: tuple[MappedTensor, torch.Tensor]) -> None:
    mapped, plain = pair
    batches = split({"input": mapped}, 30)
    assert not isinstance(batches, list)
    assert torch.equal(torch.cat([batch["input"] for batch in batches]), plain)


def test_an_index_of_an_index_and_another_type(tmp_path: Path) -> None:
    values = np.arange(40, dtype=np.float64).reshape(20, 2)
    np.save(tmp_path / "table.npy", values)
    mapped = MappedRows(np.load(tmp_path / "table.npy", mmap_mode="r"), kind="float32")
    once = rows_at(mapped, np.array([9, 8, 7, 3]))
    twice = rows_at(once, np.array([3, 0]))
    assert isinstance(twice, MappedRows) and twice.shape == (2, 2) and twice.dtype == np.float32
    assert np.array_equal(np.concatenate(list(pieces_of(twice))), values[[3, 9]].astype(np.float32))


def test_views_of_a_memory_map_read_their_own_rows(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(500, 30)).astype(np.float32)
    np.save(tmp_path / "rows.npy", values)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    index = np.array([7, 3, 3, -1])
    for view, plain in (
        (mapped[130:400], values[130:400]),
        (mapped[100::3], values[100::3]),
        (mapped[:, None], values[:, None]),
        (mapped[5:, 4:9], values[5:, 4:9]),
        (mapped[::-1], values[::-1]),
        (mapped.T, values.T),
    ):
        rows = MappedRows(view)
        assert np.array_equal(rows[:], plain) and np.array_equal(rows[2:5], plain[2:5])
        assert np.array_equal(rows[index], plain[index])


def test_a_file_that_was_cut_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((5000, 30)))
    rows = MappedRows(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    with (tmp_path / "rows.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DamagedFileError, match=r"rows\.npy became shorter"):
        _ = rows[4000:]


def test_pages_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_compress.tasks.memory_map.KEPT", 1)
    values = np.random.default_rng(0).integers(0, 255, (64, 4096), dtype=np.uint8)
    np.save(tmp_path / "rows.npy", values)
    monkeypatch.setattr("nas_compress.tasks.memory_map.row_file", lambda values: None)
    mapped = MappedRows(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    for start in range(0, 64, 8):
        assert np.array_equal(mapped[start : start + 8], values[start : start + 8])
