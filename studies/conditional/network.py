"""Residual networks in which a policy chooses the blocks of each sample (BlockDrop), and their one ONNX file.

Wu et al. 2018, arXiv 1711.08393. Each block is inside an `If` of the file, with its weights, so the runtime skips it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from nas_compress.export.graph_edits import separate_names_
from nas_compress.export.onnx_file import export_onnx
from nas_compress.models.layers import ConvUnit, Head, RawInput, Residual, initialise_
from nas_compress.quantization.quantize import quantize
from nas_compress.values.signature import Signature, TensorSpec

HIDDEN = 32
"""Width of the policy's inner layer."""

FEATURES, WANTS, LOGITS = "features", "wants", "logits"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a network. image: (channels, height, width). blocks: residual blocks of two 3x3 convolutions."""

    image: tuple[int, int, int]
    classes: int
    mean: int
    std: float
    width: int
    stride: int
    blocks: int


class Conditional(nn.Module):
    """Stem, residual blocks of one width, head, and a policy that reads the pooled output of the stem."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, width = shape, shape.width
        self.raw, self.stem = RawInput(shape.mean, shape.std), ConvUnit(shape.image[0], width, stride=shape.stride)
        self.blocks = nn.ModuleList(
            Residual(
                nn.Sequential(ConvUnit(width, width), ConvUnit(width, width, relu=False)), nn.Identity(), relu=True
            )
            for _ in range(shape.blocks)
        )
        self.head = Head(width, shape.classes)
        self.policy = nn.Sequential(
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * width, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, shape.blocks),
        )
        initialise_(self)
        nn.init.ones_(cast(nn.Linear, self.policy[-1]).bias)  # at first most blocks run

    def features(self, samples: Tensor) -> Tensor:
        """Map raw samples to the input of the first block (N, width, h, w)."""
        return cast(Tensor, self.stem(self.raw(samples)))

    def wants(self, features: Tensor) -> Tensor:
        """Return the policy's scores (N, blocks); a block runs if its score is above 0."""
        return cast(Tensor, self.policy(features.detach()))

    def run(self, features: Tensor, keep: Tensor) -> Tensor:
        """Return the logits of networks of the kept blocks. keep: bool (N, blocks)."""
        for number, block in enumerate(self.blocks):
            kept = keep[:, number, None, None, None]
            features = torch.where(kept, block(features), features)
        return cast(Tensor, self.head(features))

    def forward(self, samples: Tensor) -> Tensor:
        """Map raw samples to logits, with the blocks that the policy wants."""
        features = self.features(samples)
        return self.run(features, self.wants(features) > 0)


class _Front(nn.Module):
    """Raw samples to features, and to the policy's scores."""

    def __init__(self, network: Conditional) -> None:
        super().__init__()
        self.raw, self.stem, self.policy = network.raw, network.stem, network.policy

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        features = self.stem(self.raw(samples))
        return features, self.policy(features)


def write_conditional(network: Conditional, path: Path) -> None:
    """Write one file: the policy decides for one sample, and each block is inside an If. Outputs `logits`, `wants`."""
    front, blocks, head = _parts(network, with_policy=True)
    nodes, end = list(front.graph.node), FEATURES
    nodes += [
        helper.make_node("Split", [WANTS], [f"want{number}" for number in range(len(blocks))], axis=1,
                         num_outputs=len(blocks)),
    ]  # fmt: skip
    stored = [*front.graph.initializer, helper.make_tensor("zero", TensorProto.FLOAT, (), [0.0])]
    for number, block in enumerate(blocks):
        before, end = end, f"{FEATURES}{number}"
        inner = _renamed(block.graph, {"before": before, "after": "ran"})
        runs = helper.make_graph(list(inner.node), "n", [], [_float("ran")], list(inner.initializer))
        skips = helper.make_graph([helper.make_node("Identity", [before], ["skipped"])], "n", [], [_float("skipped")])
        nodes += [
            helper.make_node("Greater", [f"want{number}", "zero"], [f"keep{number}"]),
            helper.make_node("If", [f"keep{number}"], [end], then_branch=runs, else_branch=skips),
        ]
    tail = _prefixed(head.graph, "head/", {"last": end, LOGITS: LOGITS})
    outputs = [_described(LOGITS, (1, network.shape.classes)), _described(WANTS, (1, network.shape.blocks))]
    _write(front, [*nodes, *tail.node], [*stored, *tail.initializer], outputs, path)


def write_static(network: Conditional, kept: Sequence[int], path: Path) -> None:
    """Write the plain file of the network with some blocks. kept: their numbers, rising."""
    front, blocks, head = _parts(network, with_policy=False)
    nodes, stored, end = list(front.graph.node), list(front.graph.initializer), FEATURES
    for number in kept:
        before, end = end, f"{FEATURES}{number}"
        part = _prefixed(blocks[number].graph, f"block{number}/", {"before": before, "after": end})
        nodes, stored = [*nodes, *part.node], [*stored, *part.initializer]
    tail = _prefixed(head.graph, "head/", {"last": end, LOGITS: LOGITS})
    outputs = [_described(LOGITS, (1, network.shape.classes))]
    _write(front, [*nodes, *tail.node], [*stored, *tail.initializer], outputs, path)


def _parts(
    network: Conditional, *, with_policy: bool
) -> tuple[onnx.ModelProto, list[onnx.ModelProto], onnx.ModelProto]:
    """Export the front, every block and the head, with batch normalisation folded."""
    shape = network.shape
    side = -(-shape.image[1] // shape.stride)
    features = ("N", shape.width, side, side)
    raw = TensorSpec(name="input", dtype="uint8", shape=("N", *shape.image))

    def float_of(name: str) -> TensorSpec:
        return TensorSpec(name=name, dtype="float32", shape=features)

    wants = TensorSpec(name=WANTS, dtype="float32", shape=("N", shape.blocks))
    logits = TensorSpec(name=LOGITS, dtype="float32", shape=("N", shape.classes))
    front: nn.Module = _Front(network) if with_policy else nn.Sequential(network.raw, network.stem)
    ends = (float_of(FEATURES), wants) if with_policy else (float_of(FEATURES),)
    return (
        _export(front, Signature(inputs=(raw,), outputs=ends)),
        [
            _export(nn.Sequential(block), Signature(inputs=(float_of("before"),), outputs=(float_of("after"),)))
            for block in network.blocks
        ],
        _export(nn.Sequential(network.head), Signature(inputs=(float_of("last"),), outputs=(logits,))),
    )


def _export(part: nn.Module, signature: Signature) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.onnx"
        export_onnx(quantize(part.eval(), weight_bits=32, activation_bits=32, calibration=None), signature, path)
        return onnx.load(path)


def _prefixed(graph: onnx.GraphProto, prefix: str, ends: dict[str, str]) -> onnx.GraphProto:
    """Return a copy whose own tensors have a prefix. ends: new names of its inputs and outputs."""
    names = {name for node in graph.node for name in (*node.input, *node.output) if name}
    return _renamed(graph, {name: ends.get(name, f"{prefix}{name}") for name in names})


def _renamed(graph: onnx.GraphProto, names: dict[str, str]) -> onnx.GraphProto:
    copy = onnx.GraphProto()
    copy.CopyFrom(graph)
    for node in copy.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in copy.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    return copy


def _write(
    front: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    stored: list[onnx.TensorProto],
    outputs: list[onnx.ValueInfoProto],
    path: Path,
) -> None:
    (given,) = front.graph.input
    given.type.tensor_type.shape.dim[0].Clear()
    given.type.tensor_type.shape.dim[0].dim_value = 1  # a batch would share one decision
    graph = helper.make_graph(nodes, "n", [given], outputs, stored)
    separate_names_(graph)
    model = helper.make_model(graph, opset_imports=list(front.opset_import), ir_version=front.ir_version)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _float(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _described(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
