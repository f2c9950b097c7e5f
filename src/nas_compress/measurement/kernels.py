"""Which kernels the runtime really picks: an integer file may still compute in float, and slower."""

from __future__ import annotations

import tempfile
from pathlib import Path

from nas_compress.errors import FloatKernelError
from nas_compress.measurement.session import open_session, read_model

FLOAT_KERNELS = frozenset(
    {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Einsum"}
)
"""Operators of the optimised graph that multiply floats; integer kernels have names of their own."""


def optimised_operators(path: Path) -> tuple[str, ...]:
    """The operators of the graph that the runtime made of the file, in the order in which they run."""
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        open_session(path, optimised_path=optimised)
        return tuple(node.op_type for node in read_model(optimised).graph.node)


def float_kernels(path: Path) -> tuple[str, ...]:
    """Operators of the optimised graph, in order, that still compute a convolution or a product in float."""
    return tuple(operator for operator in optimised_operators(path) if operator in FLOAT_KERNELS)


def require_integer_kernels(path: Path) -> None:
    """Raise FloatKernelError, naming the operators, where an integer file would partly compute in float."""
    found = float_kernels(path)
    if found:
        raise FloatKernelError(
            "an integer file must run without float convolutions and products, "
            f"but got {', '.join(found)} ({path.name})"
        )
