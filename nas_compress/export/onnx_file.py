"""Export of a network to the file that ships."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from nas_compress.errors import ExportError, RequestError, RunError, first_line, require_known
from nas_compress.export.dynamo import export_to_onnx
from nas_compress.export.graph_edits import (
    drop_unread_nodes_,
    inline_constants_,
    pool_over_whole_planes_,
    share_halves_,
)
from nas_compress.export.integer_linear import make_linear_layers_integer_
from nas_compress.export.integer_moves import move_integers_
from nas_compress.export.lower_stored_weights import leave_out_zeros_, store_weights_
from nas_compress.export.nested_exits import nest_exits_, threshold_inputs
from nas_compress.export.recurrent_nodes import order_gates_, write_recurrent_nodes_
from nas_compress.export.sequences.dynamic_quantization import multiply_in_own_ranges_
from nas_compress.export.sequences.embedding_rows import slice_whole_tables_, store_rows_
from nas_compress.export.sequences.sound_tables import make_sound_tables_
from nas_compress.export.sequences.word_hashes import write_word_hashes_
from nas_compress.export.strip import strip
from nas_compress.export.torchscript import trace_to_onnx
from nas_compress.export.weight_formats import PACKED, STEPS, Layout
from nas_compress.export.xz_container import smallest_container
from nas_compress.files import write_bytes
from nas_compress.models.unfused_attention import plain_attention
from nas_compress.tasks.batch import Batch, named_outputs, require_fitting, zeros
from nas_compress.values.file_constants import COMPRESSED
from nas_compress.values.signature import Signature

Backend = Literal["torchscript", "dynamo"]

EXPORTERS = {"torchscript": trace_to_onnx, "dynamo": export_to_onnx}

TRACED_SIZE = 3
"""Size of free dimensions while a network is traced. Exporters treat 0 and 1 as constants."""


def export_onnx(
    model: nn.Module,
    signature: Signature,
    path: Path,
    *,
    backend: Backend = "torchscript",
    layout: Layout = PACKED,
) -> None:
    """Write `model` in evaluation mode to one stripped file; `model` stays unchanged.

    The file has the inputs and outputs of `signature`. `model` takes the inputs positionally and returns the outputs in
    order. The same weights give the same bytes. The file is written whole or not at all. A network with early exits
    (`models.exits`) gets a file for one sample, N = 1, that runs no further than the exit of the sample.

    path: a name that ends in `.xz` gets an xz container (`export.xz_container`) of packed weights or of one byte per
    weight, whichever is smaller.

    Raises RequestError if the outputs of `model` are not those of `signature`, ExportError if the exporter fails,
    RunError if the file cannot be written.

    >>> class Flat(nn.Linear):
    ...     def forward(self, samples):
    ...         return super().forward(samples.flatten(1).float())
    >>> export_onnx(Flat(64, 10), Signature.of_images((1, 8, 8), classes=10), Path("flat.onnx"))
    >>> 64 * 10 * 4 < Path("flat.onnx").stat().st_size < 4000
    True
    """
    traced = _trace(model, signature, backend)
    layouts = [layout, replace(layout, integers="bytes", sparse=False)] if path.suffix == COMPRESSED else [layout]
    contents = [traced.content(each) for each in layouts]
    content = smallest_container(contents) if path.suffix == COMPRESSED else contents[0]
    try:
        write_bytes(path, content)
    except OSError as error:
        raise RunError(f"Cannot write the model file {path}: {error.strerror}") from error


def size_steps(model: nn.Module, signature: Signature, *, backend: Backend = "torchscript") -> dict[str, int]:
    """Return the bytes of a network's file after each of STEPS."""
    traced = _trace(model, signature, backend)
    return {name: len(traced.content(layout)) for name, layout in STEPS.items()}


@dataclass(frozen=True, kw_only=True)
class _Traced:
    """An exporter's result."""

    exported: onnx.ModelProto
    signature: Signature

    def content(self, layout: Layout) -> bytes:
        """Return the bytes of the shipped file; zeros stay in it if leaving them out takes more bytes."""
        layouts = [layout, replace(layout, sparse=False)] if layout.sparse else [layout]
        return min((_ship(_copy(self.exported), self.signature, each) for each in layouts), key=len)


def _trace(model: nn.Module, signature: Signature, backend: Backend) -> _Traced:
    require_known("a backend", backend, EXPORTERS)
    network = model if _is_ready(model) else deepcopy(model).cpu().eval()
    samples = zeros(signature.inputs, 2, free=TRACED_SIZE)
    with plain_attention():
        _require_outputs(network, samples, signature)
        try:
            exported = EXPORTERS[backend](network, samples, signature)
        except RequestError:
            raise
        except Exception as error:  # exporters raise undocumented exceptions
            message = f"{type(model).__name__} cannot be exported by {backend}: {first_line(error)}"
            raise ExportError(message) from error
    return _Traced(exported=exported, signature=signature)


def _is_ready(model: nn.Module) -> bool:
    """Return True if `model` can be traced as it is. Copying a small network takes a tenth of its export."""
    return not any(module.training for module in model.modules()) and all(
        tensor.device.type == "cpu" for tensor in (*model.parameters(), *model.buffers())
    )


def _ship(exported: onnx.ModelProto, signature: Signature, layout: Layout) -> bytes:
    """Return the bytes of the stripped file; `exported` is changed in place."""
    graph = exported.graph
    one_sample = nest_exits_(graph)
    inline_constants_(graph)
    order_gates_(graph)
    slice_whole_tables_(graph)
    store_weights_(graph, layout)
    store_rows_(graph, layout)
    make_sound_tables_(graph)
    write_word_hashes_(graph)
    write_recurrent_nodes_(graph)
    pool_over_whole_planes_(graph)
    move_integers_(graph)
    multiply_in_own_ranges_(graph)
    make_linear_layers_integer_(exported)
    if layout.sparse:
        leave_out_zeros_(graph)
    share_halves_(graph)
    drop_unread_nodes_(graph)
    _describe_ends_(graph, signature, one_sample=one_sample)
    shipped = strip(exported)
    helper.set_model_props(shipped, _metadata(signature))
    content: bytes = shipped.SerializeToString(deterministic=True)
    return content


def _metadata(signature: Signature) -> dict[str, str]:
    """Return what a file must say about its input: word pieces of texts, or settings of hashes or sounds.

    Their bytes are part of its size.
    """
    parts = [each for spec in signature.inputs for each in (spec.pieces, spec.words, spec.log_mel)]
    found = [each.metadata() for each in parts if each is not None]
    return found[0] if found else {}


def _copy(exported: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(exported)
    return copy


def _require_outputs(network: nn.Module, samples: Batch, signature: Signature) -> None:
    with torch.no_grad():
        returned = network(*samples.values())
    if isinstance(returned, Tensor | tuple | list):
        require_fitting(named_outputs(returned, signature.output_names), signature.outputs, samples=2)
    else:
        names = ", ".join(signature.output_names)
        raise RequestError(f"a network must return a tensor per output ({names}), but got {type(returned).__name__}")


def _describe_ends_(graph: onnx.GraphProto, signature: Signature, *, one_sample: bool) -> None:
    """Replace the exporter's description of inputs and outputs, which may lack shapes.

    one_sample: the first dimension is 1, because a batch would share one decision.
    """
    for ends, specs in ((graph.input, signature.inputs), (graph.output, signature.outputs)):
        del ends[:]
        for spec in specs:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
            shape = (1, *spec.sample_shape) if one_sample else spec.shape
            ends.append(helper.make_tensor_value_info(spec.name, kind, shape))
    if one_sample:
        graph.input.extend(threshold_inputs(graph))
