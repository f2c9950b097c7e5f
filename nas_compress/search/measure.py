"""Measurement of any ONNX file on a study's data, as trials are measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas_compress.config.study_file import StudyFile, read_study
from nas_compress.data.dataset import Split
from nas_compress.devices.named import open_one
from nas_compress.devices.onnx_session import file_signature, open_session, read_model
from nas_compress.devices.protocol import Answering, Device
from nas_compress.devices.table import DEFAULT_DEVICE, DEVICES, open_device
from nas_compress.errors import DeviceLostError, RequestError, require_known
from nas_compress.measurement.exit_use import exit_rates
from nas_compress.measurement.export_agreement import agreement_of_outputs
from nas_compress.measurement.file_alone import measure_alone
from nas_compress.measurement.file_latency import ExitLatency, count_exits, measure_latency, stream_of
from nas_compress.measurement.memory.figures import memory_figures
from nas_compress.measurement.predictions import answered, measure_metrics, predict
from nas_compress.search.setup import gather
from nas_compress.tasks.batch import to_arrays, to_device, to_rows
from nas_compress.tasks.task import Task
from nas_compress.values.exits.figures import expected
from nas_compress.values.exits.settings import EXIT
from nas_compress.values.metrics.named_device_rows import figures_on
from nas_compress.values.text.measured_lengths import at_most


def measure(
    model: Path | str,
    study: StudyFile | Path | str | None = None,
    *,
    split: str = "validation",
    device: str | None = None,
) -> dict[str, object]:
    """Measure the task's metrics, latency_ms and size_bytes of an ONNX file. Use of the test split is logged.

    On a device of another runtime, such as OpenVINO, the metrics are those of its answers, and `agreement` is the
    fraction of samples with the answer of onnxruntime. `conditions` has the settings of the device, if they are not
    the default. Memory is measured if the study names it. With early exits, latency_ms is the mean over
    `stream_samples` samples of the split, `stream_ms` has mean, 50th and 95th percentile, and `forecast_ms` is the mean
    of `exit_latency_ms` by `exit_rates`, which have one entry per exit, the end last.

    study: a study.toml, its folder, a built-in name, or the result of `read_study`. Without one, only latency, size and
    memory are measured, see `measurement.file_alone`.
    split: `validation` or `test`.
    device: name of a device of the study, or of a kind that needs no table, such as `openvino`. Its latency is measured
    in place of that of the study's own one, as `latency_ms@NAME`.
    RequestError is raised if there is no such file or it does not fit the data, DeviceLostError if the device cannot be
    reached.

    >>> from nas_compress import run_study
    >>> front = run_study("mine", trials=1)
    >>> found = measure("runs/mine/" + front.members[0].model, "mine")
    >>> [found[name] == front.members[0].figure(name) for name in ("accuracy", "size_bytes")]
    [True, True]
    """
    require_known("a split", split, ("validation", "test"))
    model = Path(model)
    if not model.is_file():
        raise RequestError(f"MODEL must be an ONNX file, but {model} is not a file")
    if study is None:
        if split == "test":
            raise RequestError("--split test needs --study, which names the data, but got none")
        return measure_alone(model, device or DEFAULT_DEVICE)
    file = study if isinstance(study, StudyFile) else read_study(study)
    timed_on = None if device is None else _further_device(file, device)
    parts = gather(file)
    dataset = parts.dataset.fitting(file_signature(model)) if parts.dataset.sizes else parts.dataset
    samples = dataset.test.reveal(purpose=f"measure {model.name}") if split == "test" else dataset.validation
    rates = _rates(model, samples)
    used = timed_on or parts.target
    metrics = _metrics(model, dataset.task, samples, used)
    try:
        streamed = stream_of(to_device(samples.inputs, "cpu"), samples.tokens) if rates else ()
        latency = measure_latency(model, used, sizes=parts.sizes, rates=rates, samples=streamed)
    except DeviceLostError as error:
        raise DeviceLostError(f"device {device}: {error}") from error
    exits = _exits(latency, rates) if isinstance(latency, ExitLatency) else {}
    figures, conditions = latency.figures(used.settings), used.settings.conditions
    return {
        "model": str(model),
        "split": split,
        "samples": len(samples),
        **metrics,
        **(figures if device is None else figures_on(device, figures)),
        "latency_spread": latency.spread,
        "latency_noisy": latency.noisy,
        "size_bytes": model.stat().st_size,
        **exits,
        **memory_figures(model, parts.target.settings, sizes=at_most(parts.sizes)),
        **({"conditions": conditions} if conditions else {}),
    }


def _exits(latency: ExitLatency, rates: Sequence[float]) -> dict[str, object]:
    return {
        "exit_rates": rates,
        "exit_latency_ms": latency.exits_ms,
        "forecast_ms": expected(latency.exits_ms, rates),
        "stream_ms": latency.stream_ms,
        "stream_samples": latency.stream_samples,
    }


def _further_device(file: StudyFile, name: str) -> Device:
    """Open a device of a study, or one of a kind that needs no table."""
    entry = DEVICES.get(name)
    if name not in file.spec.devices and entry is not None and entry.make is not None:
        return open_device(name)
    return open_one(file.spec, name, label=file.label)


def _metrics(model: Path, task: Task, samples: Split, device: Device) -> dict[str, float]:
    """Return the task's metrics of a file, and its agreement with onnxruntime on a device of another runtime."""
    inputs, targets = to_rows(samples.inputs), to_arrays(samples.targets)
    metrics = measure_metrics(model, task, inputs=inputs, targets=targets)
    if not isinstance(device, Answering):
        return metrics
    session = open_session(model, signature=task.signature)
    found, expected = answered(device.answers(model), inputs, session=session), predict(session, inputs)
    agreement = agreement_of_outputs(found, expected, task, rounding="few_bits", name=model.name).agreement
    answers = {name: values for name, values in found.items() if name != EXIT}
    return task.measure(task.compact(answers), targets) | {"agreement": agreement}


def _rates(model: Path, samples: Split) -> tuple[float, ...]:
    """Return the fraction of the samples per exit of a file; empty without early exits."""
    exits = count_exits(read_model(model))
    return exit_rates(predict(model, to_rows(samples.inputs))[EXIT], exits + 1) if exits else ()
