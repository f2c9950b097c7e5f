"""Every pass of an export does inside a branch what it does outside: texts, sounds and recurrent layers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from test_branches import PASSES as OF_IMAGES
from torch import Tensor, nn

from nas_compress.export import onnx_file
from nas_compress.export.strip import strip
from nas_compress.export.torchscript import trace_to_onnx
from nas_compress.export.weight_formats import PACKED
from nas_compress.models.inputs.hashed_words import WordsOfBytes
from nas_compress.models.inputs.spectrogram import SpectrogramInput
from nas_compress.quantization.layer_bits import weight_layers
from nas_compress.quantization.quantize import quantize
from nas_compress.values.audio.log_mel import LogMel
from nas_compress.values.normalisation import Normalisation
from nas_compress.values.signature import Signature, TensorSpec, byte_input
from nas_compress.values.text.hashed_words import HashedWords
from padded_texts import TOKENS, Row, build
from token_networks import TEXT, encoder, sentences

PLAIN = Normalisation(mean=(0.0,) * 4, std=(1.0,) * 4)
SOUND, WORDS = LogMel(rate=8_000, window=64, hop=32, bands=4), HashedWords(buckets=50, longest=6)
OF_NUMBERS = TensorSpec(name="numbers", dtype="float32", shape=("N", "rest"))

NOT_AT_A_LEVEL = {"nest_exits_", "_describe_ends_"}
"""The pass that makes branches, and the one that describes the ends of the whole file."""

EXAMPLES = {
    "texts": {"slice_whole_tables_", "store_rows_", "multiply_in_own_ranges_"},
    "recurrent": {"order_gates_", "write_recurrent_nodes_"},
    "sounds": {"make_sound_tables_"},
    "bytes": {"write_word_hashes_"},
}
"""Passes that change each example."""

Example = tuple[onnx.ModelProto, Tensor]
Pass = Callable[[onnx.ModelProto], object]


class Numbers(nn.Module):
    """An input layer alone, with float32 numbers (N, rest)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, samples: Tensor) -> Tensor:
        """Return the numbers."""
        values: Tensor = self.layer(samples)
        return values.float().flatten(1)


@cache
def example(name: str) -> Example:
    """Return the traced graph of a network, and samples."""
    samples, random = sentences(), torch.manual_seed(0)
    if name == "texts":
        network = encoder(depth=1, embedding_width=4)
        bits = dict.fromkeys(weight_layers(network), 4)
        small = quantize(network, weight_bits=4, activation_bits=8, calibration=None, ranges="dynamic", layer_bits=bits)
        return trace_to_onnx(small, {"input": samples}, TEXT), samples
    if name == "recurrent":
        small = quantize(
            build(Row(family="recurrent")), weight_bits=4, activation_bits=32, calibration={"input": samples % 30}
        )
        return trace_to_onnx(small.eval(), {"input": samples % 30}, TOKENS), (samples % 30).clamp_min(1)
    if name == "sounds":
        spec = TensorSpec(name="input", dtype="int16", shape=("N", 256), log_mel=SOUND)
        network = Numbers(SpectrogramInput(SOUND, PLAIN))
        samples = torch.randint(-9_000, 9_000, (5, 256), dtype=torch.int16, generator=random)
    else:
        spec, network = byte_input(WORDS), Numbers(WordsOfBytes(WORDS))
        samples = torch.randint(97, 123, (5, 20), dtype=torch.uint8, generator=random)
    signature = Signature(inputs=(spec,), outputs=(OF_NUMBERS,))
    return trace_to_onnx(network.eval(), {"input": samples}, signature), samples


def passes() -> dict[str, Pass]:
    """Return the passes of an export by name, in their order, as the source of the export calls them."""
    source = inspect.getsource(onnx_file._ship)
    found = {}
    for name, given in re.findall(r"^ +(\w+_)\((.*)\)$", source, re.MULTILINE):
        if name not in NOT_AT_A_LEVEL:
            found[name] = _pass(getattr(onnx_file, name), given)
    return found


def _pass(apply: Callable[..., object], given: str) -> Pass:
    if given == "exported":
        return apply
    return lambda model: apply(model.graph, PACKED) if "layout" in given else apply(model.graph)


def in_a_branch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move the whole graph into one side of an If whose other side gives ones."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    (output,) = graph.output
    runs = helper.make_graph(list(graph.node), "n", [], [_end(output.name)], list(graph.initializer))
    one = helper.make_tensor("one", TensorProto.FLOAT, (1, 1), [1.0])
    never = helper.make_graph([helper.make_node("Identity", ["one.value"], ["ones"])], "n", [], [_end("ones")])
    flag = helper.make_tensor("flag", TensorProto.BOOL, (1,), [True])
    outside = [
        helper.make_node("Identity", ["one"], ["one.value"]),
        helper.make_node("If", ["flag"], ["chosen"], then_branch=runs, else_branch=never),
    ]
    ends = [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)]
    inputs = [*graph.input, helper.make_tensor_value_info("flag", TensorProto.BOOL, (1,))]
    whole = helper.make_graph(outside, "n", inputs, ends, [one, flag])
    return helper.make_model(whole, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def _end(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def branch(model: onnx.ModelProto) -> onnx.GraphProto:
    (node,) = [node for node in model.graph.node if node.op_type == "If"]
    return next(attribute.g for attribute in node.attribute if attribute.name == "then_branch")


def described(graph: onnx.GraphProto) -> tuple[list[str], list[int]]:
    """Return the operators of a graph and the sizes of its tensors."""
    return [node.op_type for node in graph.node], [len(each.SerializeToString()) for each in graph.initializer]


def answers(model: onnx.ModelProto, samples: Tensor) -> NDArray[np.float32]:
    session = ort.InferenceSession(strip(model).SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": samples.numpy()})
    return found  # type: ignore[no-any-return]


def test_every_pass_of_an_export_changes_an_example() -> None:
    of_images = {f"{name.replace(' ', '_')}_" for name in OF_IMAGES}
    assert set(passes()) == of_images.union(*EXAMPLES.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_pass_edits_a_branch_as_it_edits_a_graph(name: str) -> None:
    traced, samples = example(name)
    flat, nested, changed = onnx.ModelProto(), in_a_branch(traced), set()
    flat.CopyFrom(traced)
    for each, apply in passes().items():
        before = described(flat.graph)
        apply(flat)
        apply(nested)
        assert described(branch(nested)) == described(flat.graph), each
        if described(flat.graph) != before:
            changed.add(each)
    assert changed >= EXAMPLES[name]
    np.testing.assert_array_equal(answers(nested, samples), answers(flat, samples))
