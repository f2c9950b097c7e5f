"""What every exported file promises to whoever runs it."""

from __future__ import annotations

INPUT_NAME = "input"
"""Raw samples: uint8 (N, C, H, W)."""

OUTPUT_NAME = "logits"
"""float32 (N, classes)."""

BATCH_NAME = "N"
"""The one free dimension."""

OPSET = 20
"""The newest operator set that both exporters write and onnxruntime 1.20 and later load."""

IR_VERSION = 9
"""The file format version that came with OPSET."""

FORMS = {"onnx": "model.onnx", "compressed": "model.onnx.xz"}
"""Forms in which a file ships, and its name in each: as onnxruntime reads it, or in an xz container."""

COMPRESSED = ".xz"
"""The end of a name that says that the file is in a container."""
