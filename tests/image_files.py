"""Files of image classifiers: raw uint8 images as `input`, one row of `logits` per image."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.export.onnx_file import Backend, export_onnx, size_steps
from nas_compress.export.weight_formats import PACKED, Layout
from nas_compress.measurement.export_agreement import check_agreement
from nas_compress.measurement.predictions import File, measure_metrics, predict
from nas_compress.models.macs import count_macs
from nas_compress.tasks.classification import Classification
from nas_compress.tasks.export_tolerance import Agreement
from nas_compress.values.signature import Signature
from processors import with_exact_integers

Shape = tuple[int, int, int]


def export_images(
    model: nn.Module, shape: Shape, path: Path, *, backend: Backend = "torchscript", layout: Layout = PACKED
) -> None:
    export_onnx(model, signature_of(model, shape), path, backend=backend, layout=layout)


def image_steps(model: nn.Module, shape: Shape) -> dict[str, int]:
    return size_steps(model, signature_of(model, shape))


def image_macs(model: nn.Module, shape: Shape) -> int:
    return count_macs(model, {"input": torch.zeros((1, *shape), dtype=torch.uint8)})


def predict_logits(file: File, samples: NDArray[np.uint8]) -> NDArray[np.float32]:
    (logits,) = predict(file, {"input": samples}).values()
    return logits


def file_accuracy(file: File, samples: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    classes = int(predict_logits(file, samples[:1]).shape[1])
    task = Classification.of_images(shape=samples.shape[1:], classes=classes)
    return measure_metrics(file, task, inputs={"input": samples}, targets={"label": labels})["accuracy"]


def check_images(model: nn.Module, path: Path, samples: Tensor) -> Agreement:
    """Compare a file with its module; the test is skipped if only saturated integer kernels make them differ."""
    return with_exact_integers(path, lambda session: compare_images(model, path, samples, session))


def compare_images(model: nn.Module, path: Path, samples: Tensor, session: ort.InferenceSession) -> Agreement:
    shape = tuple(samples.shape[1:])
    classes = int(signature_of(model, shape).output("logits").shape[1])
    task = Classification.of_images(shape=shape, classes=classes)
    return check_agreement(model, path, {"input": samples}, task, session=session)


def signature_of(model: nn.Module, shape: Shape) -> Signature:
    with torch.no_grad():
        logits = deepcopy(model).cpu().eval()(torch.zeros((1, *shape), dtype=torch.uint8))
    return Signature.of_images(shape, classes=int(logits.shape[1]))
