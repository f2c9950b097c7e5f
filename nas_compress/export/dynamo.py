"""PyTorch's newer exporter, as a second opinion. Takes 3 to 10 s per network and needs onnxscript."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any, cast

import onnx
import torch
from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.export.lower_stored_weights import DOMAIN, FLOAT8_WEIGHT, STORED_WEIGHT
from nas_compress.export.recurrent_nodes import RECURRENT
from nas_compress.export.sequences.embedding_rows import STORED_ROWS
from nas_compress.export.sequences.sound_tables import MADE_AT_LOAD
from nas_compress.export.sequences.word_hashes import HASHED_WORDS
from nas_compress.models import integer_ops
from nas_compress.models.inputs import hashed_words, spectrogram
from nas_compress.models.networks import recurrent_layer
from nas_compress.tasks.batch import Batch
from nas_compress.values.file_constants import OPSET
from nas_compress.values.signature import Signature

REGISTERED = (integer_ops, recurrent_layer, hashed_words, spectrogram)
"""Modules whose operators are translated; torch knows these operators after the import."""


def export_to_onnx(network: nn.Module, samples: Batch, signature: Signature) -> onnx.ModelProto:
    """Export `network` (in evaluation mode) for free dimensions of any size. Needs onnxscript."""
    if importlib.util.find_spec("onnxscript") is None:
        raise RequestError("backend='dynamo' needs the package onnxscript, but it is not installed")
    names = {name for spec in signature.inputs for name in spec.free_dimensions.values()}
    dimensions = {name: torch.export.Dim(name) for name in names}  # equal names must have equal sizes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            tuple(samples.values()),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            # Its optimiser would turn stored int8 weights back into floats; the runtime folds when it loads.
            optimize=False,
            verbose=False,
            input_names=list(signature.input_names),
            output_names=list(signature.output_names),
            dynamic_shapes=tuple(
                {place: dimensions[name] for place, name in spec.free_dimensions.items()} for spec in signature.inputs
            ),
            custom_translation_table=cast(Any, _translations()),
        )
    return cast(torch.onnx.ONNXProgram, program).model_proto


def _translations() -> dict[Any, Any]:
    """Return each integer operator as an onnxscript function."""
    from onnxscript import opset20 as op
    from onnxscript import values

    def input_(samples: Any, scale: float, zero_point: int) -> Any:
        return op.DequantizeLinear(samples, *_parameters(op, scale, zero_point))

    def activation(floats: Any, scale: float, zero_point: int, highest: int) -> Any:
        parameters = _parameters(op, scale, zero_point)
        if highest < 255:
            ends = [torch.tensor((end - zero_point) * scale) for end in (0, highest)]
            floats = op.Clip(floats, *(op.Constant(value=_proto(end)) for end in ends))
        return op.DequantizeLinear(op.QuantizeLinear(floats, *parameters), *parameters)

    ours = values.Opset(DOMAIN, 1)
    int8, float_, uint8 = "tensor(int8)", "tensor(float)", "tensor(uint8)"
    stored_schema = _schema(STORED_WEIGHT, (int8, float_, int8), ("bits", "computed_as_float"))
    stored_op = values.Op(ours, STORED_WEIGHT, stored_schema)
    float8_op = values.Op(ours, FLOAT8_WEIGHT, _schema(FLOAT8_WEIGHT, (uint8, float_), ()))

    def weight(integers: Any, scale: Any, codebook: Any, bits: int, computed_as_float: bool) -> Any:
        return stored_op(integers, scale, codebook, bits=bits, computed_as_float=int(computed_as_float))

    def float8(codes: Any, scale: Any) -> Any:
        return float8_op(codes, scale)

    def own_range(floats: Any, rows: int) -> Any:
        return op.DequantizeLinear(*op.DynamicQuantizeLinear(floats))

    rows_schema = _schema(STORED_ROWS, ("tensor(int64)", int8, float_), ("bits", "dimensions"))
    rows_op = values.Op(ours, STORED_ROWS, rows_schema)

    def rows(ids: Any, integers: Any, scale: Any, bits: int, dimensions: int) -> Any:
        whole = op.Cast(ids, to=onnx.TensorProto.INT64)
        return rows_op(whole, integers, scale, bits=bits, dimensions=dimensions)

    table_op = values.Op(ours, MADE_AT_LOAD, _table_schema())

    def table(sounds: Any, floats: Any, edges: Any, window: int, step: float, factor: float) -> Any:
        return table_op(edges, window=window, step=step, factor=factor)

    hash_op = values.Op(ours, HASHED_WORDS, _hash_schema())

    def hashes(texts: Any, buckets: int, longest: int) -> Any:
        return hash_op(texts, buckets=buckets, longest=longest)

    def bias(halves: Any, scale: Any, input_scale: float) -> Any:
        return op.Cast(halves, to=onnx.TensorProto.FLOAT)

    layer_op = values.Op(ours, RECURRENT, _layer_schema())

    def layer(steps: Any, lengths: Any, weights: Any, cell: str, *, integer: int = 0) -> Any:
        given = [] if lengths is None else [lengths]
        return layer_op(steps, *given, *weights, cell=cell, has_lengths=len(given), integer=integer)

    def integer_layer(steps: Any, lengths: Any, weights: Any) -> Any:
        return layer(steps, lengths, weights, "lstm", integer=1)

    return {
        torch.ops.nas_compress.recurrent.default: layer,
        torch.ops.nas_compress.integer_lstm.default: integer_layer,
        torch.ops.nas_compress.dequantize_input.default: input_,
        torch.ops.nas_compress.fake_quantize_activation.default: activation,
        torch.ops.nas_compress.stored_weight.default: weight,
        torch.ops.nas_compress.float8_weight.default: float8,
        torch.ops.nas_compress.stored_rows.default: rows,
        torch.ops.nas_compress.hashed_words.default: hashes,
        torch.ops.nas_compress.made_at_load.default: table,
        torch.ops.nas_compress.round_in_own_range.default: own_range,
        torch.ops.nas_compress.integer_bias.default: bias,
    }


def _schema(name: str, inputs: tuple[str, ...], attributes: tuple[str, ...]) -> Any:
    """Return the schema of an operator of DOMAIN with these input types."""
    schema: Any = onnx.defs.OpSchema
    parameter = schema.FormalParameter
    return schema(
        name,
        DOMAIN,
        1,
        inputs=[parameter(f"input_{place}", kind) for place, kind in enumerate(inputs)],
        outputs=[parameter("weight", "tensor(float)")],
        attributes=[schema.Attribute(attribute, schema.AttrType.INT) for attribute in attributes],
    )


def _table_schema() -> Any:
    """Return the schema of MADE_AT_LOAD."""
    schema: Any = onnx.defs.OpSchema
    kinds = schema.AttrType
    return schema(
        MADE_AT_LOAD,
        DOMAIN,
        1,
        inputs=[schema.FormalParameter("edges", "tensor(float)")],
        outputs=[schema.FormalParameter("table", "tensor(float)")],
        attributes=[
            schema.Attribute("window", kinds.INT),
            *(schema.Attribute(name, kinds.FLOAT) for name in ("step", "factor")),
        ],
    )


def _hash_schema() -> Any:
    """Return the schema of HASHED_WORDS."""
    schema: Any = onnx.defs.OpSchema
    return schema(
        HASHED_WORDS,
        DOMAIN,
        1,
        inputs=[schema.FormalParameter("texts", "tensor(uint8)")],
        outputs=[schema.FormalParameter("ids", "tensor(int32)")],
        attributes=[schema.Attribute(name, schema.AttrType.INT) for name in ("buckets", "longest")],
    )


def _layer_schema() -> Any:
    """Return the schema of RECURRENT, with any number of inputs."""
    schema: Any = onnx.defs.OpSchema
    parameter, kinds = schema.FormalParameter, schema.AttrType
    inputs = parameter("inputs", "T", param_option=schema.FormalParameterOption.Variadic, is_homogeneous=False)
    return schema(
        RECURRENT,
        DOMAIN,
        1,
        inputs=[inputs],
        outputs=[parameter("states", "tensor(float)"), parameter("last", "tensor(float)")],
        type_constraints=[("T", ["tensor(float)", "tensor(int32)"], "")],
        attributes=[
            schema.Attribute("cell", kinds.STRING),
            *(schema.Attribute(name, kinds.INT) for name in ("has_lengths", "integer")),
        ],
    )


def _parameters(op: Any, scale: float, zero_point: int) -> tuple[Any, Any]:
    tensors = torch.tensor(scale, dtype=torch.float32), torch.tensor(zero_point, dtype=torch.uint8)
    return op.Constant(value=_proto(tensors[0])), op.Constant(value=_proto(tensors[1]))


def _proto(value: Tensor) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(value.numpy())
