"""Integer kernels ship if they are faster, by the latencies in the machine's cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.onnxruntime_cpu.kernel_check import float_kernels
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import FastLevel, GatedLatency
from nas_compress.devices.protocol import NO_SIZES
from nas_compress.measurement.graph_key import structure_key
from nas_compress.measurement.pipeline import Stopwatch, write_file
from nas_compress.trial.bit_allocation import planned_bits
from nas_compress.trial.context import TrialContext
from nas_compress.trial.kernel_choice import KernelChoice, choose_kernels
from nas_compress.trial.run import run_trial
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.values.candidate import PRUNED, Candidate, Quantization
from nas_compress.values.outcome import Outcome
from timing import cache_in, meter_with_level

LEVEL = 1e6
VIT = Candidate(
    family="vit",
    depths=(1,),
    width_multiplier=0.25,
    weight_bits=4,
    activation_bits=8,
    quantization=Quantization(method="lsq"),
)


def with_latencies(context: TrialContext, folder: Path, *, integer_ms: float, float_ms: float) -> TrialContext:
    """A context with cached latencies of both kinds of kernels."""
    student = student_of(VIT, context)
    latencies = {}
    for bits, value in ((8, integer_ms), (32, float_ms)):
        path = folder / f"{bits}.onnx"
        write_file(
            student,
            path,
            signature=context.dataset.task.signature,
            precision=replace(VIT.precision, activation_bits=bits),
            layer_bits=planned_bits(VIT, student, context),
            calibration=context.calibration,
            watch=Stopwatch(),
        )
        latencies[structure_key(path)] = GatedLatency(
            latency_ms=value, spread=0.0, blocks=12, noisy=False, reference_ms=LEVEL
        )
    target = OnnxruntimeCpu(meter_with_level(folder, LEVEL))
    cache_in(folder).keep(FastLevel(fast_ms=LEVEL), latencies)
    return replace(context, target=target, training=context.training.model_copy(update={"epochs": 2}))


@pytest.mark.parametrize(
    ("integer_ms", "float_ms", "floats"), [(0.5, 0.4, True), (0.4, 0.5, False), (0.5, 0.495, False)]
)
def test_the_faster_form_is_chosen(
    integer_ms: float, float_ms: float, floats: bool, context: TrialContext, tmp_path: Path
) -> None:
    known = with_latencies(context, tmp_path, integer_ms=integer_ms, float_ms=float_ms)
    form = settled(VIT, known, tmp_path)
    assert form.candidate == (replace(VIT, activation_bits=32) if floats else VIT)
    assert form.cost.figures["latency_ms"] == (float_ms if floats else integer_ms)
    assert form.integer_latency_ms == (integer_ms if floats else None)


def test_a_trial_ships_the_faster_form_and_tells_of_the_other(context: TrialContext, tmp_path: Path) -> None:
    known, model = with_latencies(context, tmp_path, integer_ms=0.5, float_ms=0.4), tmp_path / "model.onnx"
    outcome = run_trial(VIT, known, seed=0, model=model)
    assert outcome.state == "trained" and outcome.measured is not None, outcome.reason
    assert outcome.candidate == VIT and float_kernels(model)
    assert (outcome.measured.figures["latency_ms"], outcome.integer_latency_ms) == (0.4, 0.5)
    assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))) == outcome


class RememberingMeter(LatencyMeter):
    """A device that records the `patient` argument of each measurement."""

    def __init__(self, folder: Path) -> None:
        super().__init__(cache=folder, time_limit_s=0.01, blocks=1)
        self.patience: list[bool] = []

    def measure(
        self, model: Path, *, sizes: Mapping[str, int] = NO_SIZES, key: str | None = None, patient: bool = False
    ) -> GatedLatency:
        self.patience.append(patient)
        return super().measure(model, sizes=sizes, key=key, patient=patient)


def test_the_networks_layers_decide_and_not_the_name_of_its_family(context: TrialContext, tmp_path: Path) -> None:
    known = with_latencies(context, tmp_path, integer_ms=0.5, float_ms=0.4)
    meter = RememberingMeter(tmp_path)
    cut = replace(VIT, family=PRUNED, depths=(), width_multiplier=1.0)
    form = settled(cut, replace(known, target=OnnxruntimeCpu(meter)), tmp_path, student=student_of(VIT, context))
    assert form.candidate == replace(cut, activation_bits=32)
    assert (form.cost.figures["latency_ms"], form.integer_latency_ms) == (0.4, 0.5)
    assert meter.patience == [True, True], "another noise must not choose another form"


def test_networks_that_compute_all_in_integers_have_no_choice(context: TrialContext, tmp_path: Path) -> None:
    candidate = replace(VIT, family="resnet", depths=(1, 1, 1))
    cut = replace(candidate, family=PRUNED, depths=(), width_multiplier=1.0)
    meter = RememberingMeter(tmp_path)
    for each in (candidate, cut):
        form = settled(
            each, replace(context, target=OnnxruntimeCpu(meter)), tmp_path, student=student_of(candidate, context)
        )
        assert form.candidate is each and form.integer_latency_ms is None
    assert not any(meter.patience)


def student_of(candidate: Candidate, context: TrialContext) -> nn.Module:
    architecture = student_architecture(candidate, context, seed=0)
    return new_student(candidate, architecture, context.teacher, seed=0)


def settled(
    candidate: Candidate, context: TrialContext, folder: Path, *, student: nn.Module | None = None
) -> KernelChoice:
    student = student or student_of(candidate, context)
    return choose_kernels(
        candidate,
        student,
        folder,
        name="model.onnx",
        layer_bits=planned_bits(candidate, student, context),
        signature=context.dataset.task.signature,
        calibration=context.calibration,
        target=context.target,
        watch=Stopwatch(),
    )
