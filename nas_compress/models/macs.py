"""Parameters and multiply-adds of a torch module."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import _disable_current_modes

from nas_compress.errors import RequestError
from nas_compress.models.unfused_attention import plain_attention
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


def recurrent_macs(layer: nn.RNNBase, steps: int) -> int:
    """Count the multiply-adds of a recurrent layer: each weight once per step, and no biases.

    steps: of all sequences together.

    >>> recurrent_macs(nn.LSTM(3, 2, bidirectional=True), steps=5) == 2 * 5 * 4 * 2 * (3 + 2)
    True
    """
    return steps * sum(value.numel() for name, value in layer.named_parameters() if name.startswith("weight"))


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
    activations, additions and pooling do not. Recurrent layers count by `recurrent_macs`.
    RequestError if the model cannot run the batch.
    """
    if isinstance(model, CountedNetwork):
        return model.count_macs(batch)
    network = _Positional(deepcopy(model).cpu().eval())
    tensors = tuple(to_device(batch, "cpu").values())
    by_hand: list[int] = []
    for layer in network.modules():
        if isinstance(layer, nn.RNNBase):
            layer.forward = _counted_by_hand(layer, by_hand)  # ptflops counts 0 for an LSTM

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
    return int(macs) + sum(by_hand)


def _counted_by_hand(layer: nn.RNNBase, counts: list[int]) -> Callable[..., Any]:
    """Return the layer's forward without the counter, which appends the multiply-adds of each call instead."""
    forward = layer.forward

    def call(values: Tensor | PackedSequence, *given: Any) -> Any:
        data = values.data if isinstance(values, PackedSequence) else values
        counts.append(recurrent_macs(layer, data.shape[:-1].numel()))
        with _disable_current_modes():
            return forward(values, *given)

    return call
