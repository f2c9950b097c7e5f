"""The float32 form of a front member is timed, and its record says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_records
from nas_compress.search.float32_comparison import compare_with_float32, uncompared_members
from nas_compress.search.remeasure import amend
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Outcome
from timing import meter_with_level


@pytest.fixture(scope="module")
def outcome(context: TrialContext, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    candidate = Candidate(family="mobilenet", depths=(1, 1, 1), width_multiplier=0.25, weight_bits=8)
    return run_trial(candidate, context, seed=0, model=tmp_path_factory.mktemp("member") / "model.onnx")


def record(trial: int, outcome: Outcome) -> Record:
    return Record(trial=trial, params={}, outcome=outcome, finished_s=0.0, model=f"trials/{trial}/model.onnx")


def test_a_member_of_few_bits_is_compared_once(outcome: Outcome, context: TrialContext, tmp_path: Path) -> None:
    folder = RunFolder(root=tmp_path)
    floats = replace(outcome, candidate=replace(outcome.candidate, weight_bits=32, activation_bits=32))
    records = [record(0, outcome), record(1, floats), record(2, outcome)]
    open_ = uncompared_members(records, ["teacher", 0, 1])
    assert [each.trial for each in open_] == [0]

    target = OnnxruntimeCpu(meter_with_level(tmp_path, 1e6))
    compared = compare_with_float32(
        open_,
        build=context.teacher.build,
        dataset=context.dataset,
        target=target,
    )
    records = amend(folder, records, compared)
    measured = records[0].outcome.measured
    assert measured is not None and measured.float32_latency_ms is not None and measured.float32_latency_ms > 0
    assert replace(records[0].outcome, measured=outcome.measured) == outcome
    assert read_records(folder) == [records[0]]
    assert uncompared_members(records, [0, 1]) == []


def test_a_machine_in_its_slow_state_leaves_the_question_open(
    outcome: Outcome, context: TrialContext, tmp_path: Path
) -> None:
    target = OnnxruntimeCpu(meter_with_level(tmp_path, 1e-6))
    found = compare_with_float32(
        [record(0, outcome)],
        build=context.teacher.build,
        dataset=context.dataset,
        target=target,
    )
    assert found == {}
