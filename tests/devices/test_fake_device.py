"""A whole study on a second device: all that is specific to hardware comes from the device."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from fake_device import BYTES_PER_MS, FakeDevice
from nas_compress.config.schema import StudySpec
from nas_compress.config.study_file import read_study
from nas_compress.devices import table
from nas_compress.devices.table import DEFAULT_DEVICE, DEVICES, DeviceEntry, open_device
from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.preflight.forecast import forecast
from nas_compress.search.run import run_study
from nas_compress.search.setup import gather
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate
from running import own_cache, write_study  # noqa: F401

TARGET = 'target = "fake"\n'


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    made = FakeDevice()
    entry = DeviceEntry(summary=made.summary, make=lambda settings: made, integer_caution=lambda machine: "")
    monkeypatch.setattr(table, "DEVICES", {**DEVICES, "fake": entry})
    return made


def study(folder: Path) -> Path:
    return write_study(folder / "study", ('name = "tiny"\n', 'name = "tiny"\n' + TARGET))


def test_a_study_runs_on_another_device(device: FakeDevice, tmp_path: Path) -> None:
    front = run_study(study(tmp_path), out=tmp_path / "run", trials=2)
    folder = RunFolder(root=tmp_path / "run")
    assert json.loads((folder.root / "run.json").read_text())["machine"] == device.describe()
    records = read_records(folder)
    assert [record.outcome.state for record in records] == ["trained", "trained"]
    for record in records:
        measured, shape = record.outcome.measured, record.outcome.architecture
        assert measured is not None and shape is not None
        assert measured.figures["latency_ms"] == measured.figures["size_bytes"] / BYTES_PER_MS
        assert all(width.channels % 8 == 0 for width in shape.widths)
    steps = {width.channels % 16 for record in records for width in record.outcome.architecture.widths}
    assert steps - {0}, "the default device moves in steps of 16"
    assert device.checked >= 5 and device.paused > 0 and device.inside == 0
    assert len(front.members) >= 1


def test_a_forecast_leaves_no_trace_on_the_device(device: FakeDevice, tmp_path: Path) -> None:
    parts = gather(read_study(study(tmp_path)))
    assert parts.target is device
    assert forecast(parts).samples[0].measured.figures["latency_ms"] > 0
    assert not device.keys


def test_a_device_without_integer_kernels_fails_the_candidates_that_need_them(context, tmp_path: Path) -> None:
    floats_only = dataclasses.replace(context, target=FakeDevice(integers=False))
    candidate = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.25, weight_bits=8, activation_bits=8)
    outcome = run_trial(candidate, floats_only, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "failed" and "needs integer kernels" in str(outcome.reason)


def test_the_default_of_a_study_is_a_device_of_the_table() -> None:
    assert StudySpec.model_fields["target"].default.name == DEFAULT_DEVICE
    with pytest.raises(RequestError, match="a target device must be a known name"):
        open_device("toaster")
