"""Names and versions in every exported file."""

from __future__ import annotations

INPUT_NAME = "input"
"""Raw samples: uint8 (N, C, H, W)."""

OUTPUT_NAME = "logits"
"""float32 (N, classes)."""

BATCH_NAME = "N"
"""The one free dimension."""

OPSET = 20
"""The newest operator set of both exporters and of onnxruntime 1.20."""

IR_VERSION = 9
"""The file format version of OPSET."""

FORMS = {"onnx": "model.onnx", "compressed": "model.onnx.xz"}
"""File names by form: as onnxruntime reads it, or in an xz container."""

COMPRESSED = ".xz"
"""Suffix of a file in a container."""
