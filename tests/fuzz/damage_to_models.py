"""Damage to tensors, pickles, ONNX files and compressed files, which still have their format."""

from __future__ import annotations

import lzma
import pickle
from pathlib import Path
from typing import Any

import onnx
from safetensors import safe_open
from safetensors.numpy import save_file
from target import OUTSIDE, Target


def odd_tensors(target: Target) -> None:
    """Rewrite a safetensors file whole, with one tensor of nan, of another type, of another shape, or without it."""
    with safe_open(target.path, "np") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = target.random.choice(sorted(tensors))
    match target.random.randrange(4):
        case 0 if tensors[name].dtype.kind == "f":
            tensors[name].reshape(-1)[:1] = float("nan")
        case 1:
            tensors[name] = tensors[name].astype("float64")
        case 2:
            tensors[name] = tensors[name].reshape(-1)[:1].repeat(6).reshape(3, 2)
        case _:
            tensors["other"] = tensors.pop(name)
    save_file(tensors, target.path, metadata)


class Planted:
    """Writes a file outside the run when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (_writing(self.path),))


def planted_code(target: Target) -> None:
    """Put code there that leaves a mark, if a command runs it."""
    if target.path.suffix == ".py":
        target.write(target.content + f"\n{_writing(target.mark)}\n".encode())
    else:
        target.write(pickle.dumps(Planted(target.mark)))


def external_weights(target: Target) -> None:
    """Rewrite an ONNX file with its first weight in a file outside the run."""
    model = onnx.load_model_from_string(target.content)
    tensor = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", f"../{OUTSIDE}/precious.txt"
    target.write(model.SerializeToString())


def odd_graph(target: Target) -> None:
    """Rewrite an ONNX file with a dropped, unknown or endless node, or a huge tensor."""
    model = onnx.load_model_from_string(target.content)
    graph = model.graph
    at = target.random.randrange(len(graph.node))
    match target.random.randrange(4):
        case 0:
            del graph.node[at]
        case 1:
            graph.node[at].op_type = "Unknown"
        case 2 if graph.node[at].input:
            graph.node[at].input[0] = graph.node[at].output[0]
        case _:
            tensor = target.random.choice(list(graph.initializer))
            del tensor.dims[:]
            tensor.dims.extend([2**31, 2**31])
    target.write(model.SerializeToString())


def bomb(target: Target) -> None:
    """Replace a compressed file by one of 4 GB of zeros."""
    coder = lzma.LZMACompressor(preset=0)
    block = bytes(2**24)
    target.write(b"".join([*(coder.compress(block) for _ in range(256)), coder.flush()]))


def _writing(mark: Path) -> str:
    return f"open({str(mark)!r}, 'w').close()"
