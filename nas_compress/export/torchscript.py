"""The TorchScript exporter: 0.1 s per network. PyTorch calls it deprecated."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

import onnx
import torch
from torch import nn
from torch.onnx import symbolic_helper

from nas_compress.export.lower_stored_weights import DOMAIN, FLOAT8_WEIGHT, STORED_WEIGHT
from nas_compress.export.nested_exits import EARLY_EXIT, LAST_EXIT
from nas_compress.export.recurrent_nodes import RECURRENT
from nas_compress.export.sequences.embedding_rows import STORED_ROWS
from nas_compress.export.sequences.sound_tables import MADE_AT_LOAD
from nas_compress.export.sequences.word_hashes import HASHED_WORDS
from nas_compress.tasks.batch import Batch
from nas_compress.values.file_constants import OPSET
from nas_compress.values.signature import Signature

# These parts of torch are untyped.
helper: Any = symbolic_helper
onnx_exporter: Any = torch.onnx


class Graph(Protocol):
    """The graph under construction by the exporter."""

    def op(self, operator: str, *inputs: torch.Value, **attributes: object) -> torch.Value:
        """Add a node. An attribute's suffix gives its type, as in `axis_i`. With `outputs=2` there are two results."""
        ...


def trace_to_onnx(network: nn.Module, samples: Batch, signature: Signature) -> onnx.ModelProto:
    """Run `network` (in evaluation mode) once on `samples` and export the executed operations."""
    _give_meaning_to_integer_operators()
    buffer = io.BytesIO()
    with warnings.catch_warnings(), _stdout_closed():
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)  # of a slice with steps: it stays
        # layers of torch check sizes, which stay as they are
        warnings.filterwarnings("ignore", "Converting a tensor to a Python", module=r"torch\.nn\.")
        # the first states follow the batch of the samples
        warnings.filterwarnings("ignore", "Exporting a model to ONNX with a batch_size", UserWarning)
        torch.onnx.export(
            network,
            tuple(samples.values()),
            cast(str, buffer),
            dynamo=False,
            opset_version=OPSET,
            # Folding would turn stored int8 weights back into floats; the runtime folds when it loads.
            do_constant_folding=False,
            input_names=list(signature.input_names),
            output_names=list(signature.output_names),
            dynamic_axes={spec.name: spec.free_dimensions for spec in (*signature.inputs, *signature.outputs)},
        )
    return onnx.load_model_from_string(buffer.getvalue())


@contextlib.contextmanager
def _stdout_closed() -> Iterator[None]:
    """Keep the block's output off stdout, which is for data: on failure, the exporter's C++ code prints its graph."""
    with contextlib.redirect_stdout(io.StringIO()), Path(os.devnull).open("wb") as nowhere:
        try:
            if sys.__stdout__ is not None:
                sys.__stdout__.flush()
            kept = os.dup(1)
        except OSError:  # stdout is closed already
            yield
            return
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def _give_meaning_to_integer_operators() -> None:
    for name, symbolic in (
        ("dequantize_input", _dequantize_input),
        ("fake_quantize_activation", _fake_quantize_activation),
        ("stored_weight", _stored_weight),
        ("float8_weight", _float8_weight),
        ("stored_rows", _stored_rows),
        ("made_at_load", _made_at_load),
        ("hashed_words", _hashed_words),
        ("round_in_own_range", _round_in_own_range),
        ("integer_bias", _integer_bias),
        ("early_exit", _early_exit),
        ("last_exit", _last_exit),
        ("recurrent", _recurrent),
        ("integer_lstm", _integer_lstm),
    ):
        onnx_exporter.register_custom_op_symbolic(f"nas_compress::{name}", symbolic, OPSET)


def _dequantize_input(graph: Graph, samples: torch.Value, scale: torch.Value, zero_point: torch.Value) -> torch.Value:
    return graph.op("DequantizeLinear", samples, _scale(graph, scale), _zero_point(graph, zero_point))


def _fake_quantize_activation(
    graph: Graph, values: torch.Value, scale: torch.Value, zero_point: torch.Value, highest: torch.Value
) -> torch.Value:
    parameters = _scale(graph, scale), _zero_point(graph, zero_point)
    most = helper._get_const(highest, "i", "highest")
    if most < 255:
        step, zero = helper._get_const(scale, "f", "scale"), helper._get_const(zero_point, "i", "zero_point")
        ends = [graph.op("Constant", value_t=torch.tensor((end - zero) * step)) for end in (0, most)]
        values = graph.op("Clip", values, *ends)
    return graph.op("DequantizeLinear", graph.op("QuantizeLinear", values, *parameters), *parameters)


def _stored_weight(
    graph: Graph,
    integers: torch.Value,
    scale: torch.Value,
    codebook: torch.Value,
    bits: torch.Value,
    computed_as_float: torch.Value,
) -> torch.Value:
    how = {
        "bits_i": helper._get_const(bits, "i", "bits"),
        "computed_as_float_i": helper._parse_arg(computed_as_float, "b"),
    }
    return _float_like(graph.op(f"{DOMAIN}::{STORED_WEIGHT}", integers, scale, codebook, **how), integers)


def _float8_weight(graph: Graph, codes: torch.Value, scale: torch.Value) -> torch.Value:
    return _float_like(graph.op(f"{DOMAIN}::{FLOAT8_WEIGHT}", codes, scale), codes)


def _stored_rows(
    graph: Graph,
    ids: torch.Value,
    integers: torch.Value,
    scale: torch.Value,
    bits: torch.Value,
    dimensions: torch.Value,
) -> torch.Value:
    how = {
        "bits_i": helper._get_const(bits, "i", "bits"),
        "dimensions_i": helper._get_const(dimensions, "i", "dimensions"),
    }
    made = graph.op(f"{DOMAIN}::{STORED_ROWS}", ids, integers, scale, **how)
    sizes = cast(Any, ids.type()).varyingSizes()
    width = cast(Any, integers.type()).sizes()[1]
    if sizes is not None:
        made.setType(cast(Any, scale.type()).with_sizes([*sizes, width]))
    return made


def _made_at_load(
    graph: Graph,
    sounds: torch.Value,
    table: torch.Value,
    edges: torch.Value,
    window: torch.Value,
    step: torch.Value,
    factor: torch.Value,
) -> torch.Value:
    numbers = {
        "window_i": helper._get_const(window, "i", "window"),
        "step_f": helper._get_const(step, "f", "step"),
        "factor_f": helper._get_const(factor, "f", "factor"),
    }
    return _float_like(graph.op(f"{DOMAIN}::{MADE_AT_LOAD}", edges, **numbers), table)


def _hashed_words(graph: Graph, texts: torch.Value, buckets: torch.Value, longest: torch.Value) -> torch.Value:
    numbers = {
        "buckets_i": helper._get_const(buckets, "i", "buckets"),
        "longest_i": helper._get_const(longest, "i", "longest"),
    }
    made = graph.op(f"{DOMAIN}::{HASHED_WORDS}", texts, **numbers)
    made.setType(cast(Any, texts.type()).with_sizes([None, None]).with_dtype(torch.int32))
    return made


def _round_in_own_range(graph: Graph, values: torch.Value, rows: torch.Value) -> torch.Value:
    parts = cast(Any, graph.op("DynamicQuantizeLinear", values, outputs=3))
    made = graph.op("DequantizeLinear", *parts)
    made.setType(values.type())
    return made


def _integer_bias(graph: Graph, bias: torch.Value, scale: torch.Value, input_scale: torch.Value) -> torch.Value:
    return graph.op("Cast", bias, to_i=onnx.TensorProto.FLOAT)


def _early_exit(
    graph: Graph,
    confidence: torch.Value,
    threshold: torch.Value,
    early: torch.Value,
    late: torch.Value,
    late_exit: torch.Value,
    number: torch.Value,
) -> tuple[torch.Value, torch.Value]:
    which = helper._get_const(number, "i", "number")
    inputs = (confidence, threshold, early, late, late_exit)
    made = graph.op(f"{DOMAIN}::{EARLY_EXIT}", *inputs, number_i=which, outputs=2)
    answers, exit_ = cast(tuple[torch.Value, torch.Value], made)
    answers.setType(early.type())
    exit_.setType(late_exit.type())
    return answers, exit_


def _last_exit(graph: Graph, answers: torch.Value, number: torch.Value) -> torch.Value:
    exit_ = graph.op(f"{DOMAIN}::{LAST_EXIT}", answers, number_i=helper._get_const(number, "i", "number"))
    exit_.setType(cast(Any, answers.type()).with_sizes([None]).with_dtype(torch.int64))
    return exit_


def _recurrent(
    graph: Graph, values: torch.Value, lengths: torch.Value, weights: torch.Value, cell: torch.Value
) -> tuple[torch.Value, torch.Value]:
    return _layer(graph, values, lengths, weights, cell=helper._get_const(cell, "s", "cell"), integer=False)


def _integer_lstm(
    graph: Graph, values: torch.Value, lengths: torch.Value, weights: torch.Value
) -> tuple[torch.Value, torch.Value]:
    return _layer(graph, values, lengths, weights, cell="lstm", integer=True)


def _layer(
    graph: Graph, values: torch.Value, lengths: torch.Value, weights: torch.Value, *, cell: str, integer: bool
) -> tuple[torch.Value, torch.Value]:
    given = [] if helper._is_none(lengths) else [lengths]
    parts = helper._unpack_list(weights)
    how = {"cell_s": cell, "has_lengths_i": len(given), "integer_i": int(integer)}
    states, last = cast(Any, graph.op(f"{DOMAIN}::{RECURRENT}", values, *given, *parts, outputs=2, **how))
    kind = cast(Any, values.type())
    states.setType(kind.with_sizes([None] * 3))
    last.setType(kind.with_sizes([None] * 2))
    return states, last


def _float_like(made: torch.Value, stored: torch.Value) -> torch.Value:
    """Set the shape and type of our operator's output, because the exporter needs the size of a kernel."""
    made.setType(cast(Any, stored.type()).with_dtype(torch.float32))
    return made


def _scale(graph: Graph, scale: torch.Value) -> torch.Value:
    value = helper._get_const(scale, "f", "scale")
    return graph.op("Constant", value_t=torch.tensor(value, dtype=torch.float32))


def _zero_point(graph: Graph, zero_point: torch.Value) -> torch.Value:
    value = helper._get_const(zero_point, "i", "zero_point")
    return graph.op("Constant", value_t=torch.tensor(value, dtype=torch.uint8))
