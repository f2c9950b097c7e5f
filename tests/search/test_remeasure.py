"""A noisy latency of a front member is measured again, and its record amended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_records, write_record
from nas_compress.search.remeasure import amend, measure_again, noisy_members
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics import Budget
from nas_compress.values.outcome import Measured, Outcome
from timing import meter_with_level, save_net

MEASURED = Measured(
    figures={"accuracy": 0.9, "latency_ms": 99.0, "size_bytes": 1, "parameters": 1, "macs": 1},
    latency_spread=0.5,
    latency_noisy=True,
)
OUTCOME = Outcome(
    candidate=Candidate(family="resnet", depths=(1,), width_multiplier=1.0), seed=0, state="trained", measured=MEASURED
)
BUDGETS = (Budget(name="latency_ms", limit=50.0),)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(root=tmp_path)


def record(trial: int, *, repeats: int | None = None, noisy: bool = True) -> Record:
    outcome = replace(OUTCOME, reason="too slow", measured=replace(MEASURED, latency_noisy=noisy))
    return Record(
        trial=trial, params={}, outcome=outcome, finished_s=0.0, model=f"trials/{trial}/model.onnx", repeats=repeats
    )


def test_only_noisy_members_are_measured_again() -> None:
    records = [record(0), record(1, noisy=False), record(2)]
    assert [found.trial for found in noisy_members(records, ["teacher", 0, 1])] == [0]


def test_a_steady_latency_replaces_the_noisy_one_and_what_followed_from_it(folder: RunFolder) -> None:
    records = [record(0), record(1), record(2, repeats=0)]
    for each in records:
        write_record(folder, each)
    save_net(folder.trial(0) / "model.onnx")
    steady = measure_again(folder, [records[0]], OnnxruntimeCpu(meter_with_level(folder.root, 1e6)), BUDGETS, sizes={})
    assert steady[0].measured is not None and not steady[0].measured.latency_noisy
    assert steady[0].measured.figures["latency_ms"] < 50 and steady[0].reason is None
    assert steady[0].measured.figures["accuracy"] == 0.9

    amended = amend(folder, records, steady)
    assert [each.outcome for each in amended] == [steady[0], records[1].outcome, steady[0]]
    assert read_records(folder) == amended


def test_a_trial_whose_file_is_gone_keeps_its_figure(folder: RunFolder) -> None:
    assert (
        measure_again(folder, [record(0)], OnnxruntimeCpu(meter_with_level(folder.root, 1e6)), BUDGETS, sizes={}) == {}
    )
