"""A noisy latency of a front member is measured again, and its record amended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.errors import DamagedFileError
from nas_compress.runs.checks.model_files import digests_of_trial
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_records, write_record
from nas_compress.search.remeasure import amend, measure_again, noisy_members, steady_of_equal_graphs
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics.named_device_rows import device_rows
from nas_compress.values.metrics.table import Budget, declare_metrics
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
    model = f"trials/{trial if repeats is None else repeats}/model.onnx"
    return Record(trial=trial, params={}, outcome=outcome, finished_s=0.0, model=model, repeats=repeats)


def test_only_noisy_members_are_measured_again() -> None:
    records = [record(0), record(1, noisy=False), record(2)]
    assert [found.trial for found in noisy_members(records, ["teacher", 0, 1])] == [0]


def test_a_steady_latency_replaces_the_noisy_one_and_what_followed_from_it(folder: RunFolder) -> None:
    folder.trial(0).mkdir(parents=True)
    save_net(folder.trial(0) / "model.onnx")
    files = digests_of_trial(folder, "trials/0/model.onnx")
    records = [replace(record(0), files=files), record(1), replace(record(2, repeats=0), files=files)]
    for each in records:
        write_record(folder, each)
    steady = measure_again(folder, [records[0]], OnnxruntimeCpu(meter_with_level(folder.root, 1e6)), BUDGETS, sizes={})
    assert steady[0].measured is not None and not steady[0].measured.latency_noisy
    assert steady[0].measured.figures["latency_ms"] < 50 and steady[0].reason is None
    assert steady[0].measured.figures["accuracy"] == 0.9

    amended = amend(folder, records, steady)
    assert [each.outcome for each in amended] == [steady[0], records[1].outcome, steady[0]]
    assert read_records(folder) == amended


def test_a_noisy_latency_gives_way_to_the_steady_one_of_an_equal_graph(folder: RunFolder) -> None:
    declare_metrics(device_rows(["pi"]))
    fine = {"accuracy": 0.8, "latency_ms": 7.0, "latency_ms@pi": 9.0, "samples_per_s@pi": 3.0}
    steady = replace(MEASURED.with_figures(fine), latency_noisy=False, latency_spread=0.01, device_spreads={"pi": 0.02})
    noisy = MEASURED.timed({"latency_ms@pi": 90.0}, spread=0.5, noisy=True, device="pi")
    records = []
    for trial, (measured, channels) in enumerate([(noisy, 8), (steady, 8), (steady, 4), (noisy, 16)]):
        folder.trial(trial).mkdir(parents=True)
        save_net(folder.trial(trial) / "model.onnx", channels=channels)
        files = digests_of_trial(folder, f"trials/{trial}/model.onnx")
        outcome = replace(OUTCOME, reason="too slow", measured=measured)
        records.append(replace(record(trial), files=files, outcome=outcome))
    records.append(replace(records[0], trial=4, repeats=0))
    found = steady_of_equal_graphs(folder, records, BUDGETS)
    assert list(found) == [0] and found[0].reason is None
    assert found[0].measured == steady.with_figures({"accuracy": 0.9})


def test_a_trial_whose_file_another_host_has_keeps_its_figure(folder: RunFolder) -> None:
    target = OnnxruntimeCpu(meter_with_level(folder.root, 1e6))
    assert measure_again(folder, [replace(record(0), model="")], target, BUDGETS, sizes={}) == {}


def test_another_file_than_the_measured_one_is_not_timed(folder: RunFolder) -> None:
    target = OnnxruntimeCpu(meter_with_level(folder.root, 1e6))
    with pytest.raises(DamagedFileError, match=r"trials/0/model\.onnx is missing\. Restore it from a copy, or remove"):
        measure_again(folder, [record(0)], target, BUDGETS, sizes={})
    folder.trial(0).mkdir(parents=True)
    save_net(folder.trial(0) / "model.onnx")
    known = replace(record(0), files=digests_of_trial(folder, "trials/0/model.onnx"))
    with (folder.trial(0) / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DamagedFileError, match=r"trials/0/model\.onnx is not the file that was measured"):
        measure_again(folder, [known], target, BUDGETS, sizes={})
