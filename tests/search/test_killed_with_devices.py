"""A study with two devices that is killed while it measures, again and again, and continues."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from dying import Death, run_and_die
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_baseline, read_records
from nas_compress.search.run import run_study
from running import Told, write_study

OBJECTIVES = ('name = "tiny"\n', 'name = "tiny"\nobjectives = ["accuracy", "latency_ms", "latency_ms@server"]\n')
SERVER = '[device.server]\nkind = "onnxruntime_cpu"\nbatch = 2\n'

DEATHS = (
    Death(module="nas_compress.measurement.named_devices", function="measure_latency", call=1),
    Death(module="nas_compress.measurement.named_devices", function="figures_on", call=2),
    Death(module="nas_compress.search.ask_and_tell", function="write_record", call=1),
    Death(module="nas_compress.measurement.named_devices", function="measure_latency", call=2),
    Death(module="nas_compress.search.remeasure", function="described_devices", call=1),
)
"""Places that each run dies at, one after the other."""


@pytest.mark.slow
def test_a_study_with_two_devices_continues_after_any_kill(tmp_path: Path) -> None:
    study, root, cache = write_study(tmp_path / "s", OBJECTIVES, extra=SERVER), tmp_path / "run", tmp_path / "cache"
    command = ["run", study, "--out", root, "--workers", 1]
    for death in DEATHS:
        code = run_and_die(command, death, cwd=tmp_path, cache=cache, log=tmp_path / "log")
        assert code in (-signal.SIGKILL, 0), (death, (tmp_path / "log").read_text())
    told, folder = Told(), RunFolder(root=root)
    front = run_study(study, out=root, reporter=told)
    assert not any("journal" in line for line in told.lines)
    records, teacher = read_records(folder), read_baseline(folder)
    assert [record.outcome.state for record in records] == ["trained"] * 3 and teacher is not None and front.members
    for measured in [teacher, *(record.outcome.measured for record in records)]:
        assert measured is not None and measured.figures["latency_ms@server"] > 0
        assert "server" in measured.device_spreads
    assert set(json.loads(folder.marker.read_text())["devices"]) == {"server"}
