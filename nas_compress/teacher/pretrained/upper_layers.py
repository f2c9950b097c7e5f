"""Training of the upper layers of an encoder: the lower ones, which stay, run once for each sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas_compress.data.dataset import Split
from nas_compress.models.networks.encoder import TokenEncoder, hidden_scores, pooled
from nas_compress.models.token_padding import token_mask
from nas_compress.tasks.batch import device_of, fitting, token_lengths

MOST_BYTES = 2**31
"""Largest size of the stored states; above it the lower layers run in every step."""

BATCH = 64
"""Samples of a pass of the lower layers."""

STATES = "states"
"""Name of the input with the states of the lower layers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """The part of a network that learns, and its training samples."""

    network: nn.Module
    samples: Split


class UpperLayers(nn.Module):
    """The layers of an encoder from number `first` on, with its classifier; its modules are the encoder's own."""

    def __init__(self, network: TokenEncoder, first: int) -> None:
        super().__init__()
        self.layers, self.head, self.pooling = network.layers[first:], network.head, network.pooling
        self.sizes = list(network.sizes.values())

    def forward(self, ids: Tensor, states: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map ids (N, T) and the states of the layer below, (N, T or more, width), to the outputs as the network."""
        mask, tokens = token_mask(ids), states[:, : ids.shape[1]].float()
        for layer in self.layers:
            tokens, _ = layer(tokens, hidden_scores(ids, tokens.dtype))
        answer: Tensor = self.head(pooled(tokens, mask, self.pooling))
        return torch.split(answer, self.sizes, dim=1) if self.sizes else answer


@contextmanager
def training_part(network: nn.Module, samples: Split, upper: int | None) -> Iterator[Trained]:
    """Give the part of a network that learns, and its samples.

    upper: number of encoder layers that learn with the classifier; None for the whole network.
    """
    if upper is None or not isinstance(network, TokenEncoder):
        yield Trained(network=network, samples=samples)
        return
    first = len(network.layers) - upper
    ids = samples.inputs[samples.tokens[0]][:, : network.max_tokens]
    width = network.head.norm.normalized_shape[0]
    if ids.numel() * width * torch.float16.itemsize <= MOST_BYTES:
        states = lower_states(network, ids, first)
        inputs = {samples.tokens[0]: ids, STATES: states}
        yield Trained(
            network=UpperLayers(network, first),
            samples=Split(name="train", inputs=inputs, targets=samples.targets, tokens=samples.tokens),
        )
        return
    still = [*network.embedding.parameters(), *network.layers[:first].parameters()]
    for parameter in still:
        parameter.requires_grad_(False)
    try:
        yield Trained(network=network, samples=samples)
    finally:
        for parameter in still:
            parameter.requires_grad_(True)


def lower_states(network: TokenEncoder, ids: Tensor, first: int) -> Tensor:
    """Return the input of layer `first` for each sample, float16 (N, T, width); 0 at padding."""
    lengths = token_lengths({"input": ids}, ["input"])
    order = lengths.argsort(stable=True)
    width = network.head.norm.normalized_shape[0]
    states = torch.zeros((*ids.shape, width), dtype=torch.float16, device=device_of({"input": ids}))
    network.eval()
    with torch.inference_mode():
        for index in torch.split(order, fitting({"input": ids}, BATCH)):
            batch = ids[index, : int(lengths[index].max())]
            mask = token_mask(batch)
            tokens = network.embedding(batch)
            for layer in network.layers[:first]:
                tokens, _ = layer(tokens, hidden_scores(batch, tokens.dtype))
            states[index, : batch.shape[1]] = (tokens * mask.unsqueeze(-1)).half()
    return states
