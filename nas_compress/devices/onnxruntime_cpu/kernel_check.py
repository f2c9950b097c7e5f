"""Check of the kernels chosen by the runtime: an integer file may compute in float, and slower."""

from __future__ import annotations

import tempfile
from math import prod
from pathlib import Path

import onnx

from nas_compress.devices.onnx_session import open_session, read_model
from nas_compress.devices.onnx_traversal import flat_graph, holds_graphs
from nas_compress.errors import FloatKernelError
from nas_compress.files import TEMPORARY
from nas_compress.values.device_settings import DEFAULT_SETTINGS, DeviceSettings

FLOAT_KERNELS = frozenset(
    {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Einsum", "LSTM", "GRU", "RNN"}
)
"""Float products in the optimised graph; integer kernels have names of their own."""


def optimised_operators(path: Path) -> tuple[str, ...]:
    """Return the operators of the runtime's optimised graph in their order of execution."""
    return tuple(node.op_type for node in _optimised(path).graph.node)


def float_kernels(path: Path, settings: DeviceSettings = DEFAULT_SETTINGS) -> tuple[str, ...]:
    """Return the operators of the optimised graph, in order, that multiply stored weights in float.

    Products of computed tensors in a transformer (queries with keys, attention with values), its softmax, GELU and
    layer normalisation stay float and are not listed. settings: its providers are used.
    """
    return tuple(name for name, _ in _float_products(_optimised(path, settings)))


def _float_products(optimised: onnx.ModelProto) -> list[tuple[str, tuple[int, ...]]]:
    """Return each operator with the shape of its weights."""
    graph = flat_graph(optimised)
    constant: dict[str, tuple[int, ...]] = {"": ()}
    constant |= {name: tuple(tensor.dims) for name, tensor in graph.stored.items()}
    found = []
    for node in graph.nodes:
        if constant.keys() >= set(node.input) and not holds_graphs(node):
            # of stored integers and their scale, or of a matrix before it is turned
            shape = max((constant[name] for name in node.input), key=prod, default=())
            constant.update(dict.fromkeys(node.output, shape))
        elif node.op_type in FLOAT_KERNELS and any(name in constant for name in node.input[:2]):
            found.append((node.op_type, next(constant[name] for name in node.input[:2] if name in constant)))
    return found


def _optimised(path: Path, settings: DeviceSettings = DEFAULT_SETTINGS) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=path.parent) as folder:
        optimised = Path(folder) / "optimised.onnx"
        open_session(path, optimised_path=optimised, settings=settings)
        return read_model(optimised)


def require_integer_kernels(path: Path, settings: DeviceSettings = DEFAULT_SETTINGS) -> None:
    """Raise FloatKernelError with the operators' names if an integer file would partly compute in float."""
    require_integer_graph(_optimised(path, settings), path)


def require_integer_graph(optimised: onnx.ModelProto, path: Path) -> None:
    """Raise FloatKernelError if an optimised graph multiplies weights in float. path: names the file."""
    found = _float_products(optimised)
    if found:
        names = ", ".join(name for name, _ in found)
        raise FloatKernelError(
            f"an integer file must multiply no weights in float, but got {names} ({path.name})",
            [shape for _, shape in found],
        )
