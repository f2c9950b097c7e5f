"""Quantization of weights and activations, after training and during training.

torchao, brevitas and onnxruntime.quantization round in their own kernels. This package rounds weights, activations and
biases as onnxruntime's integer kernels do, so that the module and the exported file agree.
"""
