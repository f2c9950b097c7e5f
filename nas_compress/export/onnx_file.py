"""One function that writes a network as the file that ships."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from nas_compress.errors import ExportError, RequestError, RunError, first_line, require_known
from nas_compress.export.dynamo import export_to_onnx
from nas_compress.export.graph_edits import drop_unread_nodes_, inline_constants_, pool_over_whole_planes_
from nas_compress.export.integer_linear import make_linear_layers_integer_
from nas_compress.export.layout import PACKED, STEPS, Layout
from nas_compress.export.small_tensors import share_halves_
from nas_compress.export.strip import strip
from nas_compress.export.torchscript import trace_to_onnx
from nas_compress.export.weight_storage import store_weights_
from nas_compress.export.xz_container import smallest_container
from nas_compress.export.zeros import leave_out_zeros_
from nas_compress.files import write_atomically
from nas_compress.values.model_file import BATCH_NAME, COMPRESSED, INPUT_NAME, OUTPUT_NAME

Backend = Literal["torchscript", "dynamo"]

EXPORTERS = {"torchscript": trace_to_onnx, "dynamo": export_to_onnx}


def export_onnx(
    model: nn.Module,
    sample_shape: tuple[int, int, int],
    path: Path,
    *,
    backend: Backend = "torchscript",
    layout: Layout = PACKED,
) -> None:
    """Write `model` in evaluation mode to one stripped file; `model` stays as it is.

    A path that ends in `.xz` gets it in a container (`export.container`), of packed weights or of one byte a weight,
    whichever is smaller there. The file takes `input`, uint8 (N, C, H, W) with (C, H, W) = `sample_shape`, and gives
    `logits`, float32 (N, classes). The same weights give the same bytes. The file is whole or not there.

    Raises RequestError where the module's answer is not (N, classes), ExportError where the exporter cannot
    write it, RunError where the disk cannot take the file.

    >>> class Flat(nn.Linear):
    ...     def forward(self, samples):
    ...         return super().forward(samples.flatten(1).float())
    >>> export_onnx(Flat(64, 10), (1, 8, 8), Path("flat.onnx"))
    >>> 64 * 10 * 4 < Path("flat.onnx").stat().st_size < 4000
    True
    """
    traced = _trace(model, sample_shape, backend)
    layouts = [layout, replace(layout, integers="bytes", sparse=False)] if path.suffix == COMPRESSED else [layout]
    contents = [traced.content(each) for each in layouts]
    content = smallest_container(contents) if path.suffix == COMPRESSED else contents[0]
    try:
        write_atomically(path, lambda temporary: _fill(temporary, content))
    except OSError as error:
        raise RunError(f"a model file must be writable, but got {path}: {error.strerror}") from error


def size_steps(
    model: nn.Module, sample_shape: tuple[int, int, int], *, backend: Backend = "torchscript"
) -> dict[str, int]:
    """The bytes of a network's file in each of STEPS; each is a file that could ship."""
    traced = _trace(model, sample_shape, backend)
    return {name: len(traced.content(layout)) for name, layout in STEPS.items()}


@dataclass(frozen=True, kw_only=True)
class _Traced:
    """What an exporter wrote down."""

    exported: onnx.ModelProto
    sample_shape: tuple[int, int, int]
    classes: int

    def content(self, layout: Layout) -> bytes:
        """The bytes of the file that ships; with its zeros where leaving them out takes more."""
        layouts = [layout, replace(layout, sparse=False)] if layout.sparse else [layout]
        return min((_ship(_copy(self.exported), self.sample_shape, self.classes, each) for each in layouts), key=len)


def _trace(model: nn.Module, sample_shape: tuple[int, int, int], backend: Backend) -> _Traced:
    require_known("a backend", backend, EXPORTERS)
    network = model if _is_ready(model) else deepcopy(model).cpu().eval()
    samples = torch.zeros((2, *sample_shape), dtype=torch.uint8)
    classes = _classes(network, samples)
    try:
        exported = EXPORTERS[backend](network, samples)
    except RequestError:
        raise
    except Exception as error:  # exporters raise many kinds, none of which they document
        raise ExportError(f"{type(model).__name__} cannot be exported by {backend}: {first_line(error)}") from error
    return _Traced(exported=exported, sample_shape=sample_shape, classes=classes)


def _is_ready(model: nn.Module) -> bool:
    """Whether it can be run as it is; a copy of a small network costs a tenth of its export."""
    return not any(module.training for module in model.modules()) and all(
        tensor.device.type == "cpu" for tensor in (*model.parameters(), *model.buffers())
    )


def _ship(exported: onnx.ModelProto, sample_shape: tuple[int, int, int], classes: int, layout: Layout) -> bytes:
    """The bytes of the stripped file; `exported` becomes it, and is of no use after that."""
    graph = exported.graph
    inline_constants_(graph)
    store_weights_(graph, layout)
    pool_over_whole_planes_(graph)
    make_linear_layers_integer_(exported)
    if layout.sparse:
        leave_out_zeros_(graph)
    share_halves_(graph)
    drop_unread_nodes_(graph)
    _describe_ends_(graph, sample_shape, classes)
    content: bytes = strip(exported).SerializeToString(deterministic=True)
    return content


def _copy(exported: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(exported)
    return copy


def _classes(network: nn.Module, samples: Tensor) -> int:
    with torch.no_grad():
        answer = network(samples)
    if not isinstance(answer, Tensor) or answer.dim() != 2 or len(answer) != len(samples):
        got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise RequestError(f"a model must answer {len(samples)} samples with ({len(samples)}, classes), but got {got}")
    return int(answer.shape[1])


def _describe_ends_(graph: onnx.GraphProto, sample_shape: tuple[int, int, int], classes: int) -> None:
    """Say the input's and the output's shape, which an exporter may not know."""
    for ends, name, kind, shape in (
        (graph.input, INPUT_NAME, TensorProto.UINT8, sample_shape),
        (graph.output, OUTPUT_NAME, TensorProto.FLOAT, (classes,)),
    ):
        del ends[:]
        ends.append(helper.make_tensor_value_info(name, kind, (BATCH_NAME, *shape)))


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)
