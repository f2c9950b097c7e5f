"""Buffers that onnxruntime's CPU kernels take for themselves while they run."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import onnx
from onnx import helper

from nas_compress.measurement.memory.liveness import Size

SUM = 4
"""Bytes of an integer sum."""

POINTER = 8

CHANNELS = 4
"""Step of the input channels of the kernels without a buffer of sums."""


def kernel_buffer(node: onnx.NodeProto, sizes: Mapping[str, Size]) -> int:
    """Return the bytes of the buffers of an integer or transposed convolution; 0 for other operators.

    They hold the patches of one image, integer sums, and layouts with channels at the end. They are those of the
    kernels on x86 processors.

    sizes: of inputs and outputs, stored ones included, by name.
    """
    if node.op_type == "QLinearConv":
        return _integer_convolution(node, sizes)
    if node.op_type == "ConvTranspose":
        return _transposed_convolution(node, sizes)
    return 0


def _integer_convolution(node: onnx.NodeProto, sizes: Mapping[str, Size]) -> int:
    samples, weights, outputs = sizes[node.input[0]], sizes[node.input[3]].shape, sizes[node.output[0]]
    settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    channels_last = bool(settings.get("channels_last"))
    pixels = prod(outputs.shape[1:-1] if channels_last else outputs.shape[2:])
    found = 0 if channels_last else (samples.bytes + outputs.bytes) // samples.shape[0]
    depthwise = weights[1] == 1 and weights[0] == settings.get("group", 1)
    pointwise = prod(weights[2:]) == 1 and max(settings.get("strides", [1])) == 1 and not any(settings.get("pads", []))
    if depthwise or weights[1] % CHANNELS == 0:  # kernels that add and round at once, and read pixels by pointers
        return found if pointwise else found + POINTER * prod(weights[2:]) * pixels
    patches = 0 if pointwise else prod(weights[1:]) * pixels
    return found + SUM * weights[0] * pixels + patches


def _transposed_convolution(node: onnx.NodeProto, sizes: Mapping[str, Size]) -> int:
    samples, weights = sizes[node.input[0]], sizes[node.input[1]].shape
    return int(samples.width * prod(weights[1:]) * prod(samples.shape[2:]))
