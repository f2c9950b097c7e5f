"""The local CPU under onnxruntime."""
