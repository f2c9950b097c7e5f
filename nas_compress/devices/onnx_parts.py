"""Parts of an ONNX model at any depth: in branches and loops, in attributes and in functions of the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import onnx
from onnx import TensorProto

Part = TypeVar("Part")


def parts(message: Any, kind: type[Part]) -> Iterator[Part]:
    """Yield every part of this protobuf type, in the order of the file."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for each in value if hasattr(value, "__len__") else [value]:
            if isinstance(each, kind):
                yield each
            if not isinstance(each, TensorProto):  # its parts are texts, and listing them would copy its bytes
                yield from parts(each, kind)


def tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Yield every stored tensor: initialisers, also sparse ones, and attributes such as those of Constant nodes."""
    yield from parts(message, TensorProto)


def lies_outside(tensor: onnx.TensorProto) -> bool:
    """Return True if a tensor names another file or an address in memory in place of its own bytes."""
    return bool(tensor.data_location == TensorProto.EXTERNAL or tensor.external_data)
