"""Memory as objective, budget, column and axis of whole studies."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_device import FakeDevice
from nas_compress.devices import table
from nas_compress.devices.table import DEVICES, DeviceEntry
from nas_compress.measurement.memory.figures import memory_figures
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_baseline, read_records
from nas_compress.search.measure import measure
from nas_compress.search.run import run_study
from nas_compress.values.device_settings import MEMORY_METRICS, DeviceSettings
from running import write_study

NAMED = ('name = "tiny"\n', 'name = "tiny"\nobjectives = ["accuracy", "peak_memory_bytes", "flash_bytes"]\n')
TARGET = '[target]\nname = "fake"\nbatch = 2\n'


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = DeviceEntry(
        summary="fake", make=lambda settings: FakeDevice(settings=settings), integer_caution=lambda machine: ""
    )
    monkeypatch.setattr(table, "DEVICES", {**DEVICES, "fake": entry})


def test_a_study_of_memory_runs_to_a_front_and_names_it_everywhere(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", NAMED, extra=f"{TARGET}[budgets.ram_bytes]\nfraction_at_most = 9.0\n")
    front = run_study(study, out=tmp_path / "run", trials=2)
    folder = RunFolder(root=tmp_path / "run")
    teacher, records = read_baseline(folder), read_records(folder)
    assert teacher is not None and front.members
    for record in records:
        measured = record.outcome.measured
        assert measured is not None
        assert all(measured.figures[name] > 0 and teacher.figures[name] > 0 for name in MEMORY_METRICS)
    member = front.members[0]
    path = folder.root / member.model
    settings = DeviceSettings(batch=2, memory=MEMORY_METRICS)
    again = memory_figures(path, settings, sizes={})
    assert {name: member.figure(name) for name in MEMORY_METRICS} == again
    measured_again = measure(path, study)
    assert {name: measured_again[name] for name in MEMORY_METRICS} == again
    header = (folder.root / "front.csv").read_text().splitlines()[0]
    assert "peak_memory_bytes,flash_bytes" in header and "ram_bytes" in header
    assert (folder.root / "front.png").is_file()


def test_a_trial_over_its_budget_of_memory_ends_before_training(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", extra="[target]\nname = 'fake'\n[budgets.peak_memory_bytes]\nat_most = 2.2e4\n")
    run_study(study, out=tmp_path / "run", trials=1)
    (record,) = read_records(RunFolder(root=tmp_path / "run"))
    assert record.outcome.state == "over_budget" and record.outcome.reason is not None
    assert "peak_memory_bytes" in str(record.outcome.reason)
