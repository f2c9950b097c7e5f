"""Comparison of a file's outputs with those of its module, or with those of another runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import onnxruntime as ort
import torch
from torch import nn

from nas_compress.devices.onnx_session import RANGES_AT_RUN_TIME, open_session, read_model
from nas_compress.devices.onnx_traversal import flat_graph
from nas_compress.devices.protocol import Answers
from nas_compress.errors import ExportError, RequestError
from nas_compress.measurement.predictions import File, answered, predict
from nas_compress.tasks.batch import Arrays, Batch, fitting, named_outputs, split, to_arrays
from nas_compress.tasks.export_tolerance import Agreement, Rounding
from nas_compress.tasks.task import Task
from nas_compress.values.exits.settings import EXIT

BATCH = 512
"""Samples per forward pass, at most."""

SAME_EXIT: Mapping[Rounding, float] = {"none": 0.99, "integers": 0.9, "few_bits": 0.7}
"""Least fraction of samples that leave both at the same exit. A confidence near a threshold may differ."""


def check_agreement(
    model: nn.Module,
    path: Path,
    inputs: Batch,
    task: Task,
    *,
    session: ort.InferenceSession | None = None,
    integer_caution: str = "",
) -> Agreement:
    """Compare `model`, as it was exported, with its file; ExportError if rounding does not explain the difference.

    session: of the file, if it is open already. integer_caution: line about the 8-bit kernels of the device; the error
    ends with it if the file agrees once it is computed without them.
    """
    was_training = model.training
    try:
        with torch.no_grad():
            parts = [
                named_outputs(model.eval()(*batch.values()), task.signature.output_names)
                for batch in split(inputs, fitting(inputs, BATCH))
            ]
            expected = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    finally:
        model.train(was_training)
    rounding = rounding_of(path)

    def compare(file: File) -> Agreement:
        found = predict(file, to_arrays(inputs))
        return task.agreement(found, to_arrays(expected), rounding=rounding, name=path.name)

    try:
        return compare(session or path)
    except ExportError as error:
        raise with_caution(error, path, compare, integer_caution=integer_caution) from None


def check_answers(
    answers: Answers, path: Path, inputs: Batch, task: Task, *, session: ort.InferenceSession, device: str
) -> Agreement:
    """Compare a file's answers on a device with those of onnxruntime; ExportError if rounding does not explain them.

    session: of the file. device: its name, for the error.
    """
    arrays = to_arrays(inputs)
    found, expected = answered(answers, arrays, session=session), predict(session, arrays)
    return agreement_of_outputs(
        found, expected, task, rounding=rounding_of(path), name=f"{path.name} on device {device}"
    )


def agreement_of_outputs(found: Arrays, expected: Arrays, task: Task, *, rounding: Rounding, name: str) -> Agreement:
    """Return the agreement of outputs; ExportError if rounding does not explain the differences.

    Outputs of a file with early exits include the exit of each sample. Its answers are compared on the samples that
    left both at the same exit. name: of the file, for the error.
    """
    if EXIT not in expected:
        return task.agreement(found, expected, rounding=rounding, name=name)
    same = found[EXIT] == expected[EXIT]
    if not same.mean() >= SAME_EXIT[rounding]:
        raise ExportError(
            f"at least {SAME_EXIT[rounding]} of the samples must leave at the same exit, "
            f"but got {same.mean():.4f} ({name})"
        )
    both = ({output: values[same] for output, values in each.items() if output != EXIT} for each in (found, expected))
    return task.agreement(*both, rounding=rounding, name=name)


def with_caution(
    error: ExportError, path: Path, compare: Callable[[File], object], *, integer_caution: str
) -> ExportError:
    """Return the error of a comparison, with the line about 8-bit kernels if the file agrees without them.

    compare: compares the outputs of an open file. integer_caution: see `check_agreement`.
    """
    if integer_caution and _has_ranges_at_run_time(path):
        # these operators are integer ones also in a graph that is not optimised
        return ExportError(f"{error}. It multiplies integers of 8 bits: {integer_caution}")
    if integer_caution and rounding_of(path) == "integers" and _agrees_without_kernels(path, compare):
        return ExportError(f"{error}. The file agrees without integer kernels: {integer_caution}")
    return error


def _agrees_without_kernels(path: Path, compare: Callable[[File], object]) -> bool:
    try:
        compare(open_session(path, integer_kernels=False))
    except (ExportError, RequestError):
        return False
    return True


def _has_ranges_at_run_time(path: Path) -> bool:
    return any(node.op_type in RANGES_AT_RUN_TIME for node in flat_graph(read_model(path)).nodes)


def rounding_of(path: Path) -> Rounding:
    """Return the rounding of the file's computed tensors. A Clip before it means fewer bits than the kernels have."""
    if _has_ranges_at_run_time(path):
        return "integers"
    nodes = flat_graph(read_model(path)).nodes
    made_by = {name: node.op_type for node in nodes for name in node.output}
    rounded = {made_by.get(node.input[0]) for node in nodes if node.op_type == "QuantizeLinear"}
    if not rounded:
        return "none"
    return "few_bits" if "Clip" in rounded else "integers"
