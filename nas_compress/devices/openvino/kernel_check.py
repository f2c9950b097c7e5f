"""Check of the kernels chosen by OpenVINO: an integer file may compute in float."""

from __future__ import annotations

from pathlib import Path

from nas_compress.devices.onnx_session import file_signature, read_content
from nas_compress.devices.openvino.compiled import CompiledModel
from nas_compress.errors import FloatKernelError

PRODUCTS = frozenset({"Convolution", "FullyConnected", "Deconvolution"})
"""Executed nodes that multiply stored weights. Products of computed tensors are `MatMul`."""

INTEGERS = frozenset({"i8", "u8"})


def weight_products(path: Path) -> tuple[tuple[str, str, str], ...]:
    """Return layer type, precision and kernel of each product with weights, in the order of execution."""
    specs = file_signature(path).inputs
    fixed = all(isinstance(size, int) for spec in specs for size in spec.sample_shape)
    shapes = {spec.name: (1, *(int(size) for size in spec.sample_shape)) for spec in specs} if fixed else None
    found = CompiledModel(read_content(path), shapes=shapes, name=str(path)).operations()
    return tuple(
        (node["layerType"], node["runtimePrecision"], node["primitiveType"])
        for node in found
        if node["layerType"] in PRODUCTS
    )


def require_integer_kernels(path: Path) -> None:
    """Raise FloatKernelError with the kernels' names if an integer file would partly compute in float."""
    floats = [kernel for _, precision, kernel in weight_products(path) if precision not in INTEGERS]
    if floats:
        raise FloatKernelError(
            f"an integer file must multiply no weights in float, but got {', '.join(floats)} ({path.name})"
        )
