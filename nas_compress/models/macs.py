"""Parameters and multiply-adds of a torch module."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nas_compress.errors import RequestError
from nas_compress.models.plain_attention import plain_attention
from nas_compress.optional_imports import broken_counts_as_missing
from nas_compress.tasks.batch import Batch, to_device

with broken_counts_as_missing("torchvision.ops", "timm.models.vision_transformer"):
    from ptflops import get_model_complexity_info


class CountedNetwork(nn.Module, ABC):
    """A network that counts itself, because torch does not see its operations."""

    @abstractmethod
    def count_parameters(self) -> int:
        """Count the numbers of the float network."""

    @abstractmethod
    def count_macs(self, batch: Batch) -> int:
        """Count the multiply-adds of a batch of one sample."""


def count_parameters(model: nn.Module) -> int:
    """Count the trainable numbers of a float network, with batch normalisation, each shared tensor once."""
    if isinstance(model, CountedNetwork):
        return model.count_parameters()
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


class _Positional(nn.Module):
    """A network that takes its tensors as one batch, because ptflops passes one argument."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: tuple[Tensor, ...]) -> object:
        """Run the network."""
        return self.network(*batch)


def count_macs(model: nn.Module, batch: Batch) -> int:
    """Count the multiply-adds of a batch of one sample, by ptflops on the operations of one pass.

    Convolutions, products and their biases count (n for the bias of a linear layer of n outputs). Normalisation,
    activations, additions and pooling do not.
    RequestError if the model cannot run the batch.
    """
    if isinstance(model, CountedNetwork):
        return model.count_macs(batch)
    network = _Positional(deepcopy(model).cpu().eval())
    tensors = tuple(to_device(batch, "cpu").values())

    # ptflops prints errors and returns None; the CPU's fused attention would count as 0
    printed = io.StringIO()
    with (
        torch.no_grad(),
        redirect_stdout(printed),
        redirect_stderr(printed),
        sdpa_kernel(SDPBackend.MATH),
        plain_attention(),
    ):
        macs, _ = get_model_complexity_info(
            network,
            (1,),  # unused: the constructor makes the input
            backend="aten",
            as_strings=False,
            print_per_layer_stat=False,
            input_constructor=lambda shape: tensors,
        )
    if macs is None:
        lines = [line for line in printed.getvalue().splitlines() if line.strip()]
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in batch.items())
        raise RequestError(f"a model must accept inputs of shape {shapes}, but got {lines[-1]}")
    return int(macs)
