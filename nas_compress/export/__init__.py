"""From a torch module to one small, self-contained ONNX file."""
