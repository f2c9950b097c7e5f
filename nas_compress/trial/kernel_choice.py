"""Choice between integer and float kernels, by the latency of untrained files.

Attention, softmax and normalisation of a transformer stay float, and each integer product rounds its input first. A
narrow transformer is therefore faster with integer weights, converted to float by the runtime when it loads the file; a
wide one is faster with integer kernels. Latency is independent of the weights, so both are timed before training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from nas_compress.devices.protocol import EQUAL_WITHIN, Device
from nas_compress.measurement.named_devices import NamedDevices
from nas_compress.measurement.pipeline import Stopwatch, measure_cost, write_file
from nas_compress.models.exits.network import EarlyExits, exit_signature, first_input
from nas_compress.models.transformer_layers import mixes_kernels
from nas_compress.tasks.batch import Batch, timed_sizes
from nas_compress.training.sparsity import with_zeros
from nas_compress.trial.fitted_exits import exit_layer_bits
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Measured
from nas_compress.values.signature import Signature


@dataclass(frozen=True, kw_only=True)
class KernelChoice:
    """The candidate with the activation bits of the shipped file, and the cost of that file.

    integer_latency_ms: latency with integer kernels if float kernels are faster and ship instead.
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
    signature: Signature,
    calibration: Batch,
    target: Device,
    watch: Stopwatch,
    named: NamedDevices | None = None,
) -> KernelChoice:
    """Write the untrained student with each kind of kernels, and choose the fastest.

    Only a network that mixes kernels has a choice, and only at 8-bit activations. Both latencies are then measured with
    `patient=True`: noise must not change the choice between runs.

    student: on the CPU. folder: keeps the files. name: file name of the model, compressed if it ends in `.xz`.
    signature: of the file. calibration: training samples. named: further devices, which time the chosen file only.
    """
    untrained = with_zeros(student, pattern=candidate.sparsity.pattern, fraction=candidate.sparsity.fraction)
    measured = student
    if candidate.exits is not None:
        measured = untrained = EarlyExits(untrained, candidate.exits, sample=first_input(calibration))
        layer_bits, signature = exit_layer_bits(candidate, layer_bits), exit_signature(signature)
    candidates = [candidate]
    if candidate.precision.activation_bits == 8 and mixes_kernels(student):
        candidates.append(replace(candidate, precision=replace(candidate.precision, activation_bits=32)))
    found = []
    paths = []
    for each in candidates:
        path = folder / f"{each.precision.activation_bits}-{name}"
        write_file(
            untrained,
            path,
            precision=each.precision,
            layer_bits=layer_bits,
            sparse=each.sparsity.pattern != "none",
            signature=signature,
            calibration=calibration,
            watch=watch,
        )
        cost = measure_cost(
            measured,
            path,
            signature=signature,
            activation_bits=each.precision.activation_bits,
            sample=calibration,
            target=target,
            watch=watch,
            patient=len(candidates) > 1,
        )
        found.append(KernelChoice(candidate=each, cost=cost))
        paths.append(path)
    own, best = found[0], found[-1]
    fastest, integer = (choice.cost.figure("latency_ms") for choice in (best, own))
    chosen, path = own, paths[0]
    if fastest < (1 - EQUAL_WITHIN) * integer:
        chosen, path = replace(best, integer_latency_ms=integer), paths[-1]
    if named is None:
        return chosen
    with watch.stage("latency"):
        cost = named.timed(chosen.cost, path, sizes=timed_sizes(calibration, signature.inputs))
    return replace(chosen, cost=cost)
