"""Studies with a device of another runtime: its answers are compared with those of onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_device import FakeDevice
from nas_compress.devices import named, table
from nas_compress.devices.onnx_session import open_session
from nas_compress.devices.table import DEVICES, DeviceEntry
from nas_compress.errors import ExportError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_baseline, read_records
from nas_compress.search.run import run_study
from running import Command, command_in, write_study

OBJECTIVES = ('name = "tiny"\n', 'name = "tiny"\nobjectives = ["accuracy", "latency_ms", "latency_ms@other"]\n')


@dataclass(kw_only=True, eq=False)
class OtherRuntime(FakeDevice):
    """A runtime whose answers are those of onnxruntime, with an error."""

    error: float = 0.0

    def answers(self, path: Path) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        session = open_session(path)

        def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
            names = [value.name for value in session.get_outputs()]
            outputs = dict(zip(names, session.run(names, dict(inputs)), strict=True))
            return outputs | {"logits": np.where(np.arange(10) == 3, outputs["logits"] + self.error, outputs["logits"])}

        return run


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command_in(monkeypatch, capfd)


def _runtime(monkeypatch: pytest.MonkeyPatch, *, error: float) -> None:
    entry = DeviceEntry(
        summary="another runtime",
        make=lambda settings: OtherRuntime(settings=settings, error=error),
        integer_caution=lambda machine: "",
    )
    for module in (table, named):
        monkeypatch.setattr(module, "DEVICES", {**DEVICES, "other": entry})


def test_equal_answers_are_recorded_and_measured(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    _runtime(monkeypatch, error=0.0)
    study, folder = write_study(tmp_path / "s", OBJECTIVES, extra="[device.other]\n"), RunFolder(root=tmp_path / "run")
    run_study(study, out=folder.root, trials=1)
    (record,), teacher = read_records(folder), read_baseline(folder)
    assert record.outcome.measured is not None and teacher is not None
    assert record.outcome.measured.device_agreements == teacher.device_agreements == {"other": 1.0}
    again = json.loads(command("measure", folder.root / record.model, "--study", study, "--device", "other").out)
    assert again["agreement"] == 1.0
    assert again["accuracy"] == record.outcome.measured.figures["accuracy"]
    verified = json.loads(command("verify", folder.root, "--json").out)
    assert verified["problems"] == []
    assert [each["device_agreements"] for each in verified["measured"]] == [{"other": 1.0}] * 2
    _runtime(monkeypatch, error=1000.0)
    changed = command("verify", folder.root)
    assert changed.code == 1 and "on device other)" in changed.out


def test_the_answers_of_files_with_exits_are_compared_too(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = """from nas_compress.values.candidate import Candidate, Exits

def suggest(trial):
    exits = Exits(after=("stage0",))
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.25, weight_bits=8, exits=exits)
"""
    _runtime(monkeypatch, error=0.0)
    study = write_study(tmp_path / "s", OBJECTIVES, space=space, extra="[device.other]\n")
    folder = RunFolder(root=tmp_path / "run")
    run_study(study, out=folder.root, trials=1)
    (record,) = read_records(folder)
    assert record.outcome.measured is not None and record.outcome.measured.exits is not None
    assert record.outcome.measured.device_agreements == {"other": 1.0}
    again = json.loads(command("measure", folder.root / record.model, "--study", study, "--device", "other").out)
    assert again["agreement"] == 1.0
    assert again["accuracy"] == record.outcome.measured.figures["accuracy"]


def test_other_answers_end_the_run_with_the_name_of_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _runtime(monkeypatch, error=1000.0)
    study = write_study(tmp_path / "s", OBJECTIVES, extra="[device.other]\n")
    with pytest.raises(ExportError, match=r"agreement >= .* \(model.onnx on device other\)"):
        run_study(study, out=tmp_path / "run", trials=1)


def test_a_study_with_openvino_beside_onnxruntime_runs_to_a_front(tmp_path: Path, command: Command) -> None:
    pytest.importorskip("openvino")
    objectives = OBJECTIVES[0], OBJECTIVES[1].replace('@other"', '@openvino", "peak_memory_bytes"')
    study = write_study(tmp_path / "s", objectives, extra="[device.openvino]\n")
    folder = RunFolder(root=tmp_path / "run")
    front = run_study(study, out=folder.root, trials=2)
    assert front.members
    for record in read_records(folder):
        measured = record.outcome.measured
        assert record.outcome.state == "trained" and measured is not None
        assert measured.figures["latency_ms@openvino"] > 0 and measured.figures["peak_memory_bytes"] > 0
        assert measured.device_agreements == {"openvino": 1.0}
    about = json.loads(folder.marker.read_text())
    assert about["devices"]["openvino"]["openvino"] and about["devices"]["openvino"]["key"] != about["machine"]["key"]
    model = folder.root / str(front.members[0].model)
    again = json.loads(command("measure", model, "--study", study, "--device", "openvino").out)
    assert again["agreement"] == 1.0 and again["accuracy"] == front.members[0].figure("accuracy")
    target = write_study(tmp_path / "t", ('name = "tiny"\n', 'name = "tiny"\ntarget = "openvino"\n'))
    assert run_study(target, out=tmp_path / "target", trials=1).members
