"""Integer kernels ship where they are faster, by latencies that the machine's cache keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nas_compress.candidate import Candidate, Quantization
from nas_compress.deployment import Stopwatch, write_file
from nas_compress.measurement.estimate import FastLevel, Latency
from nas_compress.measurement.kernels import float_kernels
from nas_compress.measurement.structure import structure_key
from nas_compress.outcome import Outcome
from nas_compress.trial.bench import Bench, new_student, planned_bits, student_architecture
from nas_compress.trial.form import Form, settle_form
from nas_compress.trial.run import run_trial
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


def with_latencies(bench: Bench, folder: Path, *, integer_ms: float, float_ms: float) -> Bench:
    """The bench of a machine that has timed both forms before."""
    student = new_student(VIT, student_architecture(VIT, bench.dataset, bench.teacher, seed=0), bench.teacher, seed=0)
    latencies = {}
    for bits, value in ((8, integer_ms), (32, float_ms)):
        path = folder / f"{bits}.onnx"
        write_file(
            student,
            path,
            weight_bits=4,
            activation_bits=bits,
            quantization=VIT.quantization,
            layer_bits=planned_bits(VIT, student, bench),
            calibration=bench.calibration,
            watch=Stopwatch(),
        )
        latencies[structure_key(path)] = Latency(
            latency_ms=value, spread=0.0, blocks=12, noisy=False, reference_ms=LEVEL
        )
    meter = meter_with_level(folder, LEVEL)
    cache_in(folder).keep(FastLevel(fast_ms=LEVEL), latencies)
    return replace(bench, meter=meter, training=bench.training.model_copy(update={"epochs": 2}))


@pytest.mark.parametrize(
    ("integer_ms", "float_ms", "floats"), [(0.5, 0.4, True), (0.4, 0.5, False), (0.5, 0.495, False)]
)
def test_the_faster_form_is_chosen(
    integer_ms: float, float_ms: float, floats: bool, bench: Bench, tmp_path: Path
) -> None:
    known = with_latencies(bench, tmp_path, integer_ms=integer_ms, float_ms=float_ms)
    form = settled(VIT, known, tmp_path)
    assert form.candidate == (replace(VIT, activation_bits=32, round_to=8) if floats else VIT)
    assert form.cost.latency_ms == (float_ms if floats else integer_ms)
    assert form.integer_latency_ms == (integer_ms if floats else None)


def test_a_trial_ships_the_faster_form_and_tells_of_the_other(bench: Bench, tmp_path: Path) -> None:
    known, model = with_latencies(bench, tmp_path, integer_ms=0.5, float_ms=0.4), tmp_path / "model.onnx"
    outcome = run_trial(VIT, known, seed=0, model=model)
    assert outcome.state == "trained" and outcome.measured is not None, outcome.reason
    assert outcome.candidate == VIT and float_kernels(model)
    assert (outcome.measured.latency_ms, outcome.integer_latency_ms) == (0.4, 0.5)
    assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))) == outcome


def test_families_that_compute_all_in_integers_have_no_choice(bench: Bench, tmp_path: Path) -> None:
    candidate = replace(VIT, family="resnet", depths=(1, 1, 1))
    form = settled(candidate, bench, tmp_path)
    assert form.candidate is candidate and form.integer_latency_ms is None


def settled(candidate: Candidate, bench: Bench, folder: Path) -> Form:
    architecture = student_architecture(candidate, bench.dataset, bench.teacher, seed=0)
    student = new_student(candidate, architecture, bench.teacher, seed=0)
    return settle_form(
        candidate,
        student,
        folder,
        layer_bits=planned_bits(candidate, student, bench),
        calibration=bench.calibration,
        meter=bench.meter,
        watch=Stopwatch(),
    )
