"""Measurement of any ONNX file on a study's data, as trials are measured."""

from __future__ import annotations

from pathlib import Path

from nas_compress.config.study_file import StudyFile, read_study
from nas_compress.devices.named import open_one
from nas_compress.errors import DeviceLostError, RequestError, require_known
from nas_compress.measurement.latency import measure_latency
from nas_compress.measurement.predictions import measure_metrics
from nas_compress.search.setup import gather
from nas_compress.tasks.batch import to_arrays, to_rows
from nas_compress.values.metrics.device_rows import figures_on


def measure(
    model: Path | str, study: StudyFile | Path | str, *, split: str = "validation", device: str | None = None
) -> dict[str, object]:
    """Measure the task's metrics, latency_ms and size_bytes of an ONNX file. Use of the test split is logged.

    `conditions` has the settings of the device, if they are not the default.

    study: a study.toml, its folder, a built-in name, or the result of `read_study`.
    split: `validation` or `test`.
    device: name of a device of the study, whose latency is measured instead, as `latency_ms@NAME`.
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
    file = study if isinstance(study, StudyFile) else read_study(study)
    timed_on = None if device is None else open_one(file.spec, device, label=file.label)
    parts = gather(file)
    dataset = parts.dataset
    samples = dataset.test.reveal(purpose=f"measure {model.name}") if split == "test" else dataset.validation
    metrics = measure_metrics(model, dataset.task, inputs=to_rows(samples.inputs), targets=to_arrays(samples.targets))
    used = timed_on or parts.target
    try:
        latency = measure_latency(model, used, sizes=parts.sizes)
    except DeviceLostError as error:
        raise DeviceLostError(f"device {device}: {error}") from error
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
        **({"conditions": conditions} if conditions else {}),
    }
