"""Measure any ONNX file on a study's data, by the code that measures trials."""

from __future__ import annotations

from pathlib import Path

from nas_compress.errors import RequestError
from nas_compress.measurement.latency import LatencyMeter
from nas_compress.measurement.prediction import measure_accuracy
from nas_compress.measurement.structure import structure_key
from nas_compress.spec.study_file import StudyFile
from nas_compress.study.workbench import gather


def measure(model: Path, study: StudyFile, *, split: str) -> dict[str, object]:
    """Accuracy on `validation` or `test`, latency_ms and size_bytes of a file. Reading the test split is logged."""
    if not model.is_file():
        raise RequestError(f"MODEL must be an ONNX file, but {model} is no file")
    dataset = gather(study).dataset
    samples = dataset.test.reveal(purpose=f"measure {model.name}") if split == "test" else dataset.validation
    accuracy = measure_accuracy(model, samples.inputs.numpy(), samples.labels.numpy())
    latency = LatencyMeter().measure(model, key=structure_key(model), patient=True)
    return {
        "model": str(model),
        "split": split,
        "samples": len(samples),
        "accuracy": accuracy,
        "latency_ms": latency.latency_ms,
        "latency_spread": latency.spread,
        "latency_noisy": latency.noisy,
        "size_bytes": model.stat().st_size,
    }
