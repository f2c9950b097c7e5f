"""Quantization, export and measurement of a network, the same for teacher and students."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from onnxruntime import InferenceSession
from torch import Tensor, nn

from nas_compress.data.dataset import Split
from nas_compress.devices.onnx_session import open_session, read_content
from nas_compress.devices.protocol import Answering, Device, Latency, Sample
from nas_compress.devices.table import recorded_caution
from nas_compress.errors import FloatKernelError, RequestError, TrialError
from nas_compress.export.onnx_file import export_onnx
from nas_compress.export.weight_formats import Layout
from nas_compress.measurement.confusion import confusion_rows
from nas_compress.measurement.exit_points import measure_points, time_points
from nas_compress.measurement.exit_use import ExitAnswers, check_exits, exit_use
from nas_compress.measurement.export_agreement import check_agreement, check_answers
from nas_compress.measurement.file_contents import weight_contents
from nas_compress.measurement.file_latency import ExitLatency, measure_latency, stream_of
from nas_compress.measurement.memory.figures import memory_figures
from nas_compress.measurement.named_devices import NamedDevices
from nas_compress.measurement.onnx_macs import count_exit_macs
from nas_compress.measurement.predictions import predict_split
from nas_compress.models.exits.network import EarlyExits
from nas_compress.models.macs import count_macs, count_parameters
from nas_compress.quantization.find_weights import find_weights
from nas_compress.quantization.quantize import quantize
from nas_compress.tasks.batch import (
    Batch,
    chosen,
    device_of,
    one_sample,
    rows,
    timed_sizes,
    to_arrays,
    to_device,
    to_rows,
    unpadded,
)
from nas_compress.tasks.task import Task
from nas_compress.values.exits.figures import ExitFigures, equal_rates
from nas_compress.values.exits.settings import EXIT
from nas_compress.values.outcome import Measured
from nas_compress.values.precision import Precision
from nas_compress.values.signature import Signature
from nas_compress.values.text.measured_lengths import SampleSizes, at_most

AGREEMENT_SAMPLES = 512
AGREEMENT_NUMBERS = 2**24
"""Samples of the comparison of a file with its module, and limit of their outputs for tasks with large ones."""

CALIBRATION_SAMPLES = 256
SHOWN = 4
"""Layers named in an error."""


class Stopwatch:
    """Seconds spent per named stage, added up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - started)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds that were measured elsewhere to a stage."""
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 4)


def write_file(
    network: nn.Module,
    path: Path,
    *,
    signature: Signature,
    precision: Precision,
    calibration: Batch,
    watch: Stopwatch,
    layer_bits: Mapping[str, int] | None = None,
    sparse: bool = False,
    adjust: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """Quantize and export a network on the CPU; return the exported module as reference for the file's outputs.

    signature: inputs and outputs of the file. calibration: training samples that set the ranges of activations.
    layer_bits: weight bits by path if layers differ. sparse: leave zeros out of the file if it gets smaller.
    adjust: changes the quantized module before its export.
    """
    with watch.stage("quantize"):
        deployable = quantize(
            network.eval(),
            weight_bits=precision.weight_bits,
            activation_bits=precision.activation_bits,
            calibration=calibration,
            weight_format=precision.quantization.weight_format,
            ranges=precision.quantization.ranges,
            layer_bits=layer_bits,
        )
    if adjust is not None:
        adjust(deployable)
    with watch.stage("export"):
        export_onnx(deployable, signature, path, layout=Layout(sparse=sparse))
    return deployable


def measure_cost(
    network: nn.Module,
    path: Path,
    *,
    signature: Signature,
    activation_bits: int,
    sample: Batch,
    target: Device,
    watch: Stopwatch,
    patient: bool = False,
) -> Measured:
    """Measure all figures of an untrained network: the file's latency and size, parameters and macs.

    Parameters and macs are those of the float network. With early exits, latency and macs are the mean over the exits;
    each exit and the end are assumed to take the same share of the samples.

    signature, activation_bits: of the file. sample: a batch of at least one sample. patient: see `Device.latency`.
    Raises FloatKernelError if the device would compute an integer file in float.
    """
    try:
        _check(path, activation_bits=activation_bits, target=target, watch=watch)
    except FloatKernelError as error:
        raise _with_layers(error, network) from error
    with watch.stage("count"):
        parameters, macs = count_parameters(network), count_macs(network, one_sample(sample, signature.inputs))
        contents, sizes = weight_contents(path), timed_sizes(sample, signature.inputs)
        memory = memory_figures(path, target.settings, sizes=at_most(sizes))
    with watch.stage("latency"):
        latency = measure_latency(path, target, sizes=sizes, patient=patient)
    exits = None
    if isinstance(latency, ExitLatency):
        parts = count_exit_macs(read_content(path), to_arrays(one_sample(sample, signature.inputs)))
        exits = ExitFigures(latency_ms=latency.exits_ms, macs=parts, rates=equal_rates(len(parts) - 1))
        macs = round(exits.expected_macs)
    return Measured(
        figures={
            **latency.figures(target.settings),
            "size_bytes": path.stat().st_size,
            "parameters": parameters,
            "macs": macs,
            **memory,
        },
        latency_spread=latency.spread,
        latency_noisy=latency.noisy,
        float32_fraction=contents.float32_fraction,
        exits=exits,
    )


def measure_file(
    deployable: nn.Module,
    path: Path,
    *,
    task: Task,
    activation_bits: int,
    cost: Measured,
    validation: Split,
    target: Device,
    watch: Stopwatch,
    named: NamedDevices | None = None,
    patient: bool = False,
) -> Measured:
    """Measure all figures of a trained file; ExportError if its outputs differ from those of `deployable`.

    cost: of the untrained file. Its latencies are measured again if they are noisy or of another graph. named: further
    devices that time the file. patient: see `Device.latency`.
    """
    if isinstance(deployable, EarlyExits) and cost.exits is not None:
        return _measure_exits(
            deployable,
            path,
            cost.exits,
            task=task,
            activation_bits=activation_bits,
            cost=cost,
            validation=validation,
            target=target,
            watch=watch,
            named=named,
            patient=patient,
        )
    _check(path, activation_bits=activation_bits, target=target, watch=watch)
    inputs = to_device(validation.inputs, "cpu")
    with watch.stage("agreement"):
        session = open_session(path, signature=task.signature)
        agreement = check_agreement(
            deployable,
            path,
            unpadded(rows(inputs, 0, _agreement_samples(task.signature)), validation.tokens),
            task,
            session=session,
            integer_caution=recorded_caution(target.describe()),
        )
        agreements = agreements_elsewhere(path, inputs, task, devices=_all(target, named), session=session)
    with watch.stage("accuracy"):
        targets = to_arrays(validation.targets)
        outputs = predict_split(session, task, inputs=to_rows(inputs), targets=targets)
        metrics, confusion = task.measure(outputs, targets), confusion_rows(task, outputs, targets)
    with watch.stage("count"):
        contents, sizes = weight_contents(path), timed_sizes(inputs, task.signature.inputs)
        memory = memory_figures(path, target.settings, sizes=at_most(sizes))
    trained = cost.with_figures({"size_bytes": path.stat().st_size, **memory, **metrics})
    with watch.stage("latency"):
        latency = measure_latency(path, target, sizes=sizes, patient=patient)
        trained = _timed(trained, latency, path, sizes=sizes, target=target, named=named, patient=patient)
    return replace(
        trained,
        agreement=agreement.agreement,
        max_difference=agreement.max_difference,
        zero_fraction=contents.zero_fraction,
        float32_fraction=contents.float32_fraction,
        confusion=confusion,
        device_agreements=agreements,
    )


def _measure_exits(
    deployable: EarlyExits,
    path: Path,
    exits: ExitFigures,
    *,
    task: Task,
    activation_bits: int,
    cost: Measured,
    validation: Split,
    target: Device,
    watch: Stopwatch,
    named: NamedDevices | None,
    patient: bool,
) -> Measured:
    """Measure a trained file with early exits; see `measure_file`. exits: of the untrained file."""
    _check(path, activation_bits=activation_bits, target=target, watch=watch)
    inputs, labels = to_device(validation.inputs, "cpu"), to_device(validation.targets, "cpu")
    with watch.stage("accuracy"):
        targets = to_arrays(labels)
        session = open_session(path, signature=task.signature)
        outputs = predict_split(session, task, inputs=to_rows(inputs), targets=targets)
        answers = {name: values for name, values in outputs.items() if name != EXIT}
        metrics, confusion = task.measure(answers, targets), confusion_rows(task, answers, targets)
    with watch.stage("agreement"):
        caution = recorded_caution(target.describe())
        agreement = check_exits(deployable, path, outputs, inputs, task, integer_caution=caution)
        agreements = agreements_elsewhere(path, inputs, task, devices=_all(target, named), session=session)
        known = ExitAnswers(deployable, inputs, labels, task)
        used = exit_use(exits, deployable, outputs, known)
    with watch.stage("count"):
        contents = weight_contents(path)
    trained = cost.with_figures({"size_bytes": path.stat().st_size, "macs": round(used.expected_macs), **metrics})
    trained = replace(trained, exits=used)
    with watch.stage("latency"):
        sizes, samples = timed_sizes(inputs, task.signature.inputs), stream_of(inputs, validation.tokens)
        latency = measure_latency(path, target, sizes=sizes, patient=patient, rates=used.rates, samples=samples)
        trained = _timed(
            trained, latency, path, sizes=sizes, samples=samples, target=target, named=named, patient=patient
        )
    if isinstance(latency, ExitLatency):
        used = used.timed(latency.exits_ms, stream_ms=latency.stream_ms, stream_samples=latency.stream_samples)
    with watch.stage("exits"):
        whole = known.answers[-1].argmax(axis=1)
        used = measure_points(path, used, task=task, inputs=inputs, targets=targets, whole=whole)
        used, noisy = time_points(path, used, target, samples, patient=patient)
    return replace(
        trained,
        latency_noisy=trained.latency_noisy or noisy,
        agreement=agreement.agreement,
        max_difference=agreement.max_difference,
        zero_fraction=contents.zero_fraction,
        float32_fraction=contents.float32_fraction,
        confusion=confusion,
        exits=used,
        device_agreements=agreements,
    )


def _timed(
    trained: Measured,
    latency: Latency,
    path: Path,
    *,
    sizes: SampleSizes,
    samples: Sequence[Sample] = (),
    target: Device,
    named: NamedDevices | None,
    patient: bool,
) -> Measured:
    """Return the figures with the latency of the study's device and with those of the named ones."""
    trained = trained.timed(latency.figures(target.settings), spread=latency.spread, noisy=latency.noisy)
    return trained if named is None else named.timed(trained, path, sizes=sizes, samples=samples, patient=patient)


def _all(target: Device, named: NamedDevices | None) -> dict[str, Device]:
    return {target.name: target, **({} if named is None else named.devices)}


def agreements_elsewhere(
    path: Path, inputs: Batch, task: Task, *, devices: Mapping[str, Device], session: InferenceSession
) -> dict[str, float]:
    """Return the agreement with onnxruntime of each device with answers of its own, by name.

    inputs: on the CPU; at most 512 samples are used. session: of the file.
    ExportError if rounding does not explain a difference, TrialError if a runtime cannot run the file.
    """
    few = rows(inputs, 0, _agreement_samples(task.signature))
    found = {}
    for name, device in devices.items():
        if isinstance(device, Answering):
            try:
                compared = check_answers(device.answers(path), path, few, task, session=session, device=name)
            except RequestError as error:
                raise TrialError(f"device {name}: {error}") from error
            found[name] = compared.agreement
    return found


def _agreement_samples(signature: Signature) -> int:
    sizes = [math.prod(size for size in spec.sample_shape if isinstance(size, int)) for spec in signature.outputs]
    return max(1, min(AGREEMENT_SAMPLES, AGREEMENT_NUMBERS // max(sizes)))


def calibration_samples(train: Split) -> Batch:
    """Return the first training samples, on the CPU, or samples at equal distances if the first ones lack a class.

    Data of a user may be sorted by class. Ranges of the first classes only would be too narrow for the others.
    """
    if any(_lacks_a_class(values) for values in train.targets.values()):
        places = torch.linspace(0, len(train) - 1, min(CALIBRATION_SAMPLES, len(train)), dtype=torch.float64).long()
        samples = unpadded(chosen(train.inputs, places.to(device_of(train.inputs))), train.tokens)
        return to_device(samples, "cpu")
    return to_device(train.first(CALIBRATION_SAMPLES).inputs, "cpu")


def _lacks_a_class(targets: Tensor) -> bool:
    """Return True if the first of one label per sample lack one of the others."""
    if targets.ndim != 1 or targets.is_floating_point():
        return False
    return not bool(torch.isin(targets, targets[:CALIBRATION_SAMPLES]).all())


def _check(path: Path, *, activation_bits: int, target: Device, watch: Stopwatch) -> None:
    with watch.stage("kernels"):
        target.check(path, activation_bits=activation_bits)


def _with_layers(error: FloatKernelError, network: nn.Module) -> FloatKernelError:
    """Return the error with the layers whose weights have the shapes that a device multiplies in float."""
    wanted = {tuple(sorted(shape)) for shape in error.shapes}
    layers = [each.layer for each in find_weights(network) if tuple(sorted(each.tensor.shape)) in wanted]
    where = f" in {', '.join(layers[:SHOWN])}{', ...' if len(layers) > SHOWN else ''}" if layers else ""
    return FloatKernelError(f"{error}{where}; use activation_bits=32", error.shapes)
