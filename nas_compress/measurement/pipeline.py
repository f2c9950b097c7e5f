"""From a torch network to the file that ships and its figures. Teacher and students go the same way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from nas_compress.data.dataset import Split
from nas_compress.devices.device import Device
from nas_compress.devices.onnx_session import open_session
from nas_compress.export.layout import Layout
from nas_compress.export.onnx_file import export_onnx
from nas_compress.measurement.accuracy import measure_accuracy
from nas_compress.measurement.export_agreement import check_agreement
from nas_compress.measurement.file_contents import weight_zero_fraction
from nas_compress.measurement.graph_key import structure_key
from nas_compress.models.macs import count_macs, count_parameters
from nas_compress.quantization.quantize import quantize
from nas_compress.values.outcome import Measured
from nas_compress.values.precision import Quantization

AGREEMENT_SAMPLES = 512
CALIBRATION_SAMPLES = 256
PLAIN = Quantization()


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
        """Add to a stage what was spent elsewhere."""
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 4)


def write_file(
    network: nn.Module,
    path: Path,
    *,
    weight_bits: int,
    activation_bits: int,
    calibration: Tensor,
    watch: Stopwatch,
    quantization: Quantization = PLAIN,
    layer_bits: Mapping[str, int] | None = None,
    sparse: bool = False,
) -> nn.Module:
    """Quantize and export a network that lies on the CPU; return the module whose answers the file must give.

    calibration: raw samples of the training split, uint8 (n, C, H, W), that set the ranges of activations. layer_bits:
    weight bits by path, where layers differ. sparse: zeros are left out of the file where that is smaller.
    """
    with watch.stage("quantize"):
        deployable = quantize(
            network.eval(),
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            calibration=calibration,
            weight_format=quantization.weight_format,
            ranges=quantization.ranges,
            layer_bits=layer_bits,
        )
    with watch.stage("export"):
        export_onnx(deployable, _shape(calibration), path, layout=Layout(sparse=sparse))
    return deployable


def measure_cost(
    network: nn.Module,
    path: Path,
    *,
    activation_bits: int,
    sample: Tensor,
    target: Device,
    watch: Stopwatch,
    patient: bool = False,
) -> Measured:
    """Measure all that needs no training: latency and size of the file, parameters and macs of the float network.

    activation_bits: of the file; the device must compute integers in integers. patient: see `Device.latency`.
    """
    _check(path, activation_bits=activation_bits, target=target, watch=watch)
    with watch.stage("count"):
        parameters, macs = count_parameters(network), count_macs(network, _shape(sample))
    with watch.stage("latency"):
        latency = target.latency(path, key=structure_key(path), patient=patient)
    return Measured(
        figures={
            "latency_ms": latency.latency_ms,
            "size_bytes": path.stat().st_size,
            "parameters": parameters,
            "macs": macs,
        },
        latency_spread=latency.spread,
        latency_noisy=latency.noisy,
    )


def measure_file(
    deployable: nn.Module,
    path: Path,
    *,
    activation_bits: int,
    cost: Measured,
    validation: Split,
    target: Device,
    watch: Stopwatch,
    patient: bool = False,
) -> Measured:
    """All figures of a trained file: it must answer like `deployable` (else ExportError), then its accuracy and size.

    `cost` comes from the untrained file of the same structure; a noisy latency, or one of another structure, is
    measured again here, at length if `patient`.
    """
    _check(path, activation_bits=activation_bits, target=target, watch=watch)
    inputs = validation.inputs["input"].cpu()
    with watch.stage("agreement"):
        session = open_session(path)
        agreement = check_agreement(deployable, path, inputs[:AGREEMENT_SAMPLES], session=session)
    with watch.stage("accuracy"):
        accuracy = measure_accuracy(session, inputs.numpy(), validation.targets["label"].cpu().numpy())
    with watch.stage("count"):
        zero_fraction = weight_zero_fraction(path)
    with watch.stage("latency"):
        latency = target.latency(path, key=structure_key(path), patient=patient)
    trained = {"latency_ms": latency.latency_ms, "size_bytes": path.stat().st_size, "accuracy": accuracy}
    return replace(
        cost.with_figures(trained),
        latency_spread=latency.spread,
        latency_noisy=latency.noisy,
        agreement=agreement.agreement,
        max_difference=agreement.max_difference,
        zero_fraction=zero_fraction,
    )


def calibration_samples(train: Split) -> Tensor:
    """The first training samples (the split is shuffled when made), on the CPU."""
    return train.inputs["input"][:CALIBRATION_SAMPLES].cpu()


def _check(path: Path, *, activation_bits: int, target: Device, watch: Stopwatch) -> None:
    with watch.stage("kernels"):
        target.check(path, activation_bits=activation_bits)


def _shape(samples: Tensor) -> tuple[int, int, int]:
    channels, height, width = samples.shape[1:]
    return channels, height, width
