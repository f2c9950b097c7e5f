"""Parameters and multiply-adds of a torch module."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy

import torch
from ptflops import get_model_complexity_info
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nas_compress.errors import RequestError


def count_parameters(model: nn.Module) -> int:
    """Count the trainable numbers of a float network, with batch normalisation, each shared tensor once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_macs(model: nn.Module, sample_shape: tuple[int, int, int]) -> int:
    """Count the multiply-adds for one uint8 sample (C, H, W), by ptflops on the operations of one pass.

    Convolutions, products and their biases count (n for the bias of a linear layer of n outputs). Normalisation,
    activations, additions and pooling do not.
    RequestError if the model cannot run the sample.
    """
    network = deepcopy(model).cpu().eval()

    def one_sample(shape: tuple[int, ...]) -> Tensor:
        return torch.zeros((1, *shape), dtype=torch.uint8)

    # ptflops prints errors and returns None; the CPU's fused attention would count as 0
    printed = io.StringIO()
    with torch.no_grad(), redirect_stdout(printed), redirect_stderr(printed), sdpa_kernel(SDPBackend.MATH):
        macs, _ = get_model_complexity_info(
            network,
            tuple(sample_shape),
            backend="aten",
            as_strings=False,
            print_per_layer_stat=False,
            input_constructor=one_sample,
        )
    if macs is None:
        lines = [line for line in printed.getvalue().splitlines() if line.strip()]
        raise RequestError(f"a model must accept uint8 samples of shape {tuple(sample_shape)}, but got {lines[-1]}")
    return int(macs)
