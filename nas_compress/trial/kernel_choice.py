"""The form in which a student ships, settled on untrained files: integer kernels only where they pay.

A transformer's attention, softmax and normalisation stay float, and every product in integers rounds its input first: a
narrow one is faster with integer weights that the runtime turns into floats when it loads, a wide one with integer
kernels. Latency does not depend on the weights, so both are timed before training, once per machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from nas_compress.devices.onnxruntime_cpu.estimate import MARGIN
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.measurement.pipeline import Stopwatch, measure_cost, write_file
from nas_compress.models.transformer_layers import mixes_kernels
from nas_compress.training.sparsity import with_zeros
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Measured


@dataclass(frozen=True, kw_only=True)
class KernelChoice:
    """What ships for a candidate: the candidate with the activation bits that its file has, and what the file costs.

    integer_latency_ms: where float kernels ship instead of integer ones, the latency of those.
    """

    candidate: Candidate
    cost: Measured
    integer_latency_ms: float | None = None


def choose_kernels(
    candidate: Candidate,
    student: nn.Module,
    folder: Path,
    *,
    name: str,
    layer_bits: Mapping[str, int],
    calibration: Tensor,
    meter: LatencyMeter,
    watch: Stopwatch,
) -> KernelChoice:
    """Write the untrained student, on the CPU, in each form that it may ship in, and take the fastest.

    folder: where the files may lie, which stay there. name: of the file that ships, whose end says whether it is
    compressed. calibration: uint8 (n, C, H, W). Only networks that mix kernels have a choice, and only where the
    candidate has 8-bit activations: their latencies are measured with patience, for another noise must not choose
    another form.
    """
    untrained = with_zeros(student, pattern=candidate.zero_pattern, fraction=candidate.zero_fraction)
    found = []
    forms = _forms(candidate, student)
    for form in forms:
        path = folder / f"{form.activation_bits}-{name}"
        write_student(untrained, path, candidate=form, layer_bits=layer_bits, calibration=calibration, watch=watch)
        cost = measure_cost(student, path, sample=calibration, meter=meter, watch=watch, patient=len(forms) > 1)
        found.append(KernelChoice(candidate=form, cost=cost))
    own, best = found[0], found[-1]
    if best.cost.latency_ms < (1 - MARGIN) * own.cost.latency_ms:
        return replace(best, integer_latency_ms=own.cost.latency_ms)
    return own


def write_student(
    network: nn.Module,
    path: Path,
    *,
    candidate: Candidate,
    layer_bits: Mapping[str, int],
    calibration: Tensor,
    watch: Stopwatch,
) -> nn.Module:
    """Write a candidate's network as the file that ships, trained or not; return the module that was exported."""
    return write_file(
        network,
        path,
        weight_bits=candidate.weight_bits,
        activation_bits=candidate.activation_bits,
        quantization=candidate.quantization,
        layer_bits=layer_bits,
        sparse=candidate.zero_pattern != "none",
        calibration=calibration,
        watch=watch,
    )


def _forms(candidate: Candidate, student: nn.Module) -> list[Candidate]:
    """The candidate itself, and what it may become."""
    forms = [candidate]
    if candidate.activation_bits == 8 and mixes_kernels(student):
        # the step of the widths follows the bits, and the shape must not change
        forms.append(replace(candidate, activation_bits=32, round_to=candidate.channel_step))
    return forms
