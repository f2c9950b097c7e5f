"""The number of workers that fit cores, memory and trials."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import joblib
import psutil
import pytest
import torch

from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import count_records
from nas_compress.search.run import run_study
from nas_compress.search.workers.count import AUTO, COPIES, PROCESS_BYTES, worker_bytes, worker_count
from running import Command, command_in, quick_and_apart, write_study


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset(name="digits", shift=0, train_samples=100)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 8 cores, whose memory is enough for 4 workers and a half."""
    monkeypatch.setattr(joblib, "cpu_count", lambda *, only_physical_cores: 8)
    free = int(4.5 * PROCESS_BYTES)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("asked", "trials", "device", "count"),
    [(AUTO, 100, "cpu", 4), (AUTO, 3, "cpu", 3), (AUTO, 100, "cuda", 1), (2, 100, "cuda", 2), (2, 1, "cpu", 1)],
)
def test_workers_fit_memory_trials_and_device(
    asked: int, trials: int, device: str, count: int, digits: Dataset
) -> None:
    assert worker_count(asked, trials=trials, dataset=digits, device=device) == count


@pytest.mark.usefixtures("machine")
def test_more_workers_than_the_memory_holds_are_refused(digits: Dataset) -> None:
    with pytest.raises(RequestError, match=r"available memory .* must hold, but got --workers 6; use --workers 4"):
        worker_count(6, trials=100, dataset=digits, device="cpu")


def test_one_worker_is_never_refused(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1))
    for asked in (AUTO, 1):
        assert worker_count(asked, trials=10, dataset=digits, device="cpu") == 1


def test_the_memory_of_a_worker_grows_with_the_data(digits: Dataset) -> None:
    batches = [digits.train.inputs, digits.train.targets, digits.validation.inputs, digits.validation.targets]
    held = sum(tensor.element_size() * tensor.numel() for batch in batches for tensor in batch.values())
    assert all(isinstance(tensor, torch.Tensor) for batch in batches for tensor in batch.values())
    assert worker_bytes(digits) == PROCESS_BYTES + COPIES * held


def test_only_the_trials_that_are_left_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, run = write_study(tmp_path / "s"), tmp_path / "run"
    with quick_and_apart():
        run_study(study, out=run, trials=1)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=int(1.5 * PROCESS_BYTES)))
        with pytest.raises(RequestError, match="--workers 1, or --workers auto"):
            run_study(study, out=run, trials=3, workers=2)
        assert count_records(RunFolder(root=run)) == 1
        run_study(study, out=run, trials=2, workers=2)
    assert count_records(RunFolder(root=run)) == 2


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command_in(monkeypatch, capfd)


@pytest.mark.parametrize("given", ["0", "many", "-1", "1.5"])
def test_the_command_refuses_other_numbers_of_workers(given: str, command: Command) -> None:
    refused = command("run", "digits", "--workers", given)
    assert refused.code == 2
    assert f"'--workers': a number >= 1 or auto must be given, but got '{given}'" in refused.line
