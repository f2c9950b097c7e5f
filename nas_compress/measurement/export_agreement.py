"""Whether a file answers like the module that it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from nas_compress.devices.onnx_session import read_model
from nas_compress.errors import ExportError
from nas_compress.measurement.accuracy import predict

FLOAT_AGREEMENT = 0.999
FLOAT_DIFFERENCE = 1e-3
"""Of the largest logit, and at least this much: float files differ by the order of additions only."""

INTEGER_AGREEMENT = 0.9
"""Module and kernels round weights, activations and biases alike (`round_biases_`); they differ where a
float sum falls on the other side of a tie. Trained networks agree on 0.99 and more. A network of the user's own, in
which another module stands between a rounding and the layer that reads it, has float biases in the module alone."""

COARSE_AGREEMENT = 0.7
"""Of files with simulated activations of fewer than 8 bits, where the next integer is a fifteenth of the range away.
Trained mobilenets answer 2,000 images alike (benchmarks/README.md); 21 residual networks of one and two epochs whose
modules had float biases agreed with their files on 0.73 to 0.99 of 359 digits."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often file and module choose the same class (a fraction), and a logit's largest difference."""

    agreement: float
    max_difference: float


def check_agreement(
    model: nn.Module, path: Path, inputs: Tensor, *, session: ort.InferenceSession | None = None
) -> Agreement:
    """Compare `model`, as it was exported, with the file on raw samples uint8 (N, C, H, W).

    `session` is the file where it is open already. Raises ExportError where they differ more than rounding explains.
    """
    expected = _answers(model, inputs)
    answers = predict(session or path, inputs.cpu().numpy())
    found = Agreement(
        agreement=float((answers.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        max_difference=float(np.abs(answers - expected).max()),
    )
    rounded = _rounded_tensors(path)
    if rounded:
        _require(found, COARSE_AGREEMENT if "Clip" in rounded else INTEGER_AGREEMENT, np.inf, path)
    else:
        _require(found, FLOAT_AGREEMENT, FLOAT_DIFFERENCE * max(1.0, float(np.abs(expected).max())), path)
    return found


def _answers(model: nn.Module, inputs: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    was_training = model.training
    try:
        with torch.no_grad():
            logits: Tensor = model.eval()(inputs)
    finally:
        model.train(was_training)
    return logits.float().cpu().numpy()


def _require(found: Agreement, agreement: float, difference: float, path: Path) -> None:
    # Written so that a comparison with nan fails too.
    if not (found.agreement >= agreement and found.max_difference <= difference):
        raise ExportError(
            f"agreement >= {agreement} and max_difference <= {difference:.3g} must hold, but got "
            f"{found.agreement:.4f} and {found.max_difference:.3g} ({path.name})"
        )


def _rounded_tensors(path: Path) -> set[str]:
    """The operators whose answers the file rounds to integers; a Clip where it simulates fewer bits than it stores."""
    graph = read_model(path).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    return {makers.get(node.input[0], "") for node in graph.node if node.op_type == "QuantizeLinear"}
