"""Comparison of a file's outputs with those of its module."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
import torch
from torch import nn

from nas_compress.devices.onnx_session import read_model
from nas_compress.measurement.predictions import predict
from nas_compress.tasks.agreement import Agreement, Rounding
from nas_compress.tasks.batch import Batch, named_outputs, to_arrays
from nas_compress.tasks.task import Task


def check_agreement(
    model: nn.Module, path: Path, inputs: Batch, task: Task, *, session: ort.InferenceSession | None = None
) -> Agreement:
    """Compare `model`, as it was exported, with its file; ExportError if rounding does not explain the difference.

    session: of the file, if it is open already.
    """
    was_training = model.training
    try:
        with torch.no_grad():
            expected = named_outputs(model.eval()(*inputs.values()), task.signature.output_names)
    finally:
        model.train(was_training)
    found = predict(session or path, to_arrays(inputs))
    return task.agreement(found, to_arrays(expected), rounding=_rounding(path), name=path.name)


def _rounding(path: Path) -> Rounding:
    """Return the rounding of the file's computed tensors. A Clip before it means fewer bits than the kernels have."""
    graph = read_model(path).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    rounded = {made_by.get(node.input[0]) for node in graph.node if node.op_type == "QuantizeLinear"}
    if not rounded:
        return "none"
    return "few_bits" if "Clip" in rounded else "integers"
