"""Activation points in networks of any make, put into their traced graphs.

torch.fx records the operations of a network. Here each recorded value also has its result for two batches, so that
sizes are numbers and decisions on them can be followed. onnxruntime.quantization puts its points into the exported
file, where they cannot be trained.
"""
