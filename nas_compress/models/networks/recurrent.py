"""Recurrent networks over tokens or over a series (N, C, T): RNN, LSTM or GRU, in one or both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.models.family import Family, FreeLayers
from nas_compress.models.features import Observation, OneInputNetwork
from nas_compress.models.input_output_scaling import output_scale, raw_input
from nas_compress.models.inputs.hashed_words import token_input
from nas_compress.models.layers import ActivationPoint, initialise_
from nas_compress.models.networks.mlp import VectorHead
from nas_compress.models.networks.recurrent_layer import RecurrentLayer
from nas_compress.models.token_padding import PADDING, masked_max, masked_mean, token_counts, token_mask
from nas_compress.values.architecture import Architecture
from nas_compress.values.family_settings import FamilySettings, RecurrentSettings
from nas_compress.values.signature import Signature


class TokenSteps(nn.Module):
    """Token ids (N, T) to the rows of a table, time first: (T, N, width). The row of padding is and stays 0."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width, padding_idx=PADDING)

    def forward(self, ids: Tensor) -> Tensor:
        """Return float32 (T, N, width)."""
        return cast(Tensor, self.table(ids.transpose(0, 1)))


class RecurrentNetwork(OneInputNetwork):
    """Steps, recurrent layers, pooling over the steps, and a linear head.

    embedding: from token ids to steps; None for a series. raw_input: normalisation of a series, or hashes of texts.
    pooling: `last`, `mean` or `max`. output: name of the output.
    """

    def __init__(
        self,
        raw_input: nn.Module,
        embedding: TokenSteps | None,
        layers: Sequence[RecurrentLayer],
        head: nn.Module,
        *,
        pooling: str,
        output: str,
    ) -> None:
        super().__init__(output)
        self.raw_input, self.embedding = raw_input, embedding
        self.stages = nn.ModuleList([nn.ModuleList(layers)])
        self.point, self.head, self.pooling = ActivationPoint(), head, pooling
        initialise_(head)
        for layer in layers:
            initialise_cells_(layer)

    def observe(self, samples: Tensor, *, relations: bool = False) -> Observation:
        """Features `layer0`, `layer1`, ..., each (B, steps, width), after `embedding` of tokens; no relations."""
        features: dict[str, Tensor] = {}
        mask = lengths = None
        if self.embedding is None:
            values = self.raw_input(samples).permute(2, 0, 1)
        else:
            ids = self.raw_input(samples)
            mask, lengths = token_mask(ids), token_counts(ids)
            values = self.embedding(ids)
            features["embedding"] = values.transpose(0, 1)
        last = values[-1]
        for number, layer in enumerate(cast(nn.ModuleList, self.stages[0])):
            values, last = layer(values, lengths)
            features[f"layer{number}"] = values.transpose(0, 1)
        pooled = last if self.pooling == "last" else _pooled(values.transpose(0, 1), mask, self.pooling)
        return Observation(outputs=self.named(self.head(self.point(pooled))), features=features, mask=mask)


def _pooled(states: Tensor, mask: Tensor | None, pooling: str) -> Tensor:
    """Pool states (N, T, width) over their steps to (N, width)."""
    if mask is None:
        return states.mean(dim=1) if pooling == "mean" else states.amax(dim=1)
    return masked_mean(states, mask) if pooling == "mean" else masked_max(states, mask)


@torch.no_grad()
def initialise_cells_(layer: RecurrentLayer) -> None:
    """Give a layer fresh weights in place: orthogonal ones of the state, biases 0, and 1 for an LSTM's forget gate.

    The open forget gate lets gradients pass from the start (Jozefowicz et al. 2015, section 2.2).
    """
    for name, parameter in layer.named_parameters():
        if name.startswith("bias"):
            parameter.zero_()
            if layer.cell == "lstm" and name.startswith("bias_ih"):
                parameter.chunk(4)[1].fill_(1.0)
        else:
            start = nn.init.orthogonal_ if name.startswith("weight_hh") else nn.init.xavier_uniform_
            for gate in parameter.chunk(len(parameter) // layer.hidden_size):
                start(gate)


class Recurrent(Family[RecurrentSettings]):
    """Recurrent layers, each with the width of its state searched; two directions double the width of a step."""

    summary = "RNN, LSTM or GRU layers over tokens or series"
    source = "Schuster, Paliwal 1997; Cho et al. 2014, arXiv 1406.1078"
    base_widths = (64,)
    base_depths = (1,)
    settings = RecurrentSettings
    has_channels = has_removable_blocks = False

    def fits(self, signature: Signature) -> bool:
        """Return True for token ids or one series (N, C, T) of a fixed size, and one vector as output."""
        try:
            _ = _width_of_series(signature), signature.vector_size
        except RequestError:
            return False
        return True

    def _layers(self, depths: tuple[int, ...], base_widths: tuple[int, ...], settings: RecurrentSettings) -> FreeLayers:
        """Every recurrent layer."""
        return [(f"stages.0.{number}", base_widths[0]) for number in range(depths[0])]

    def build(self, architecture: Architecture) -> RecurrentNetwork:
        """A freshly initialised network."""
        settings, signature = self.own(architecture.settings), architecture.signature
        channels = _width_of_series(signature)
        width = settings.embedding_width if channels is None else channels
        embedding = None if channels is not None else TokenSteps(signature.vocabulary, width)
        layers = []
        for number in range(architecture.depths[0]):
            state = architecture.channels(f"stages.0.{number}")
            layers.append(RecurrentLayer(width, state, cell=settings.cell, bidirectional=settings.bidirectional))
            width = state * (2 if settings.bidirectional else 1)
        return RecurrentNetwork(
            token_input(architecture) if channels is None else raw_input(architecture, rounded=False),
            embedding,
            layers,
            VectorHead(width, signature.vector_size, scale=output_scale(architecture)),
            pooling=settings.pooling or "max",
            output=signature.output_names[0],
        )

    def require_activation_bits(self, bits: int, settings: FamilySettings) -> None:
        """Require 8 bits and an LSTM, because the runtime has one integer kernel of recurrent layers."""
        cell = self.own(settings).cell
        if bits < 32 and (bits != 8 or cell != "lstm"):
            raise RequestError(
                "activation_bits of a recurrent network must be 32, or 8 with cell='lstm', the only cell with an "
                f"integer kernel, but got activation_bits={bits} with cell={cell!r}; weight_bits alone make it smaller"
            )

    def blocks(self, network: nn.Module) -> Sequence[nn.ModuleList]:
        """The layers as one stage."""
        if not isinstance(network, RecurrentNetwork):
            raise RequestError(f"a network of this family must be recurrent, but got {type(network).__name__}")
        return [stage for stage in network.stages if isinstance(stage, nn.ModuleList)]

    def is_removable(self, block: nn.Module) -> bool:
        """Return False: no layer adds to its input."""
        return False


def _width_of_series(signature: Signature) -> int | None:
    """Channels of a series; None for token ids. RequestError for any other input."""
    if signature.inputs[0].values is not None:
        _ = signature.vocabulary
        return None
    return signature.series_shape[0]
