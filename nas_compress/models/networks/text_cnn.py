"""Convolutions of several kernel sizes over the tokens of a text, each with its largest value as result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from nas_compress.models.family import FreeLayers
from nas_compress.models.layers import ActivationPoint, StagedNetwork, StagesOfBlocks
from nas_compress.models.networks.text_bag import classified
from nas_compress.models.token_padding import PADDING, takes_tokens, token_mask
from nas_compress.values.architecture import Architecture
from nas_compress.values.family_settings import TextConvolutionSettings
from nas_compress.values.signature import Signature


class Filters(nn.Module):
    """One convolution over tokens, with ReLU.

    point: shared by the convolutions of all kernel sizes, whose values have one range, so that the file joins integers.
    """

    def __init__(self, inputs: int, filters: int, kernel: int, *, point: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, filters, (1, kernel), padding=(0, kernel // 2))
        self.relu, self.point = nn.ReLU(inplace=True), point
        self.is_even = kernel % 2 == 0

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, inputs, 1, T) to (N, filters, 1, T)."""
        found: Tensor = self.point(self.relu(self.conv(values)))
        return found[..., :-1] if self.is_even else found  # an even kernel gives one value too many


class TokenConvolutions(nn.Module):
    """Token ids (N, T) to the largest values of all filters, (N, sum of filters).

    The row of padding is and stays 0, as the border of a convolution is: the end of a text looks the same in any batch.
    """

    def __init__(self, vocabulary: int, width: int, filters: Sequence[int], kernels: Sequence[int]) -> None:
        super().__init__()
        self.embedding, self.point = nn.Embedding(vocabulary, width, padding_idx=PADDING), ActivationPoint()
        found = ActivationPoint()
        self.branches = nn.ModuleList(
            Filters(width, count, kernel, point=found) for count, kernel in zip(filters, kernels, strict=True)
        )
        self.joined = ActivationPoint()  # the largest values are computed in float; the next layer takes integers

    def forward(self, ids: Tensor) -> Tensor:
        """Map (N, T) to (N, sum of filters); padding does not count."""
        # one order of the dimensions for the runtime, whose integer convolutions read channels last
        values: Tensor = self.point(self.embedding(ids).unsqueeze(1).permute(0, 3, 1, 2))
        found = torch.cat([branch(values) for branch in self.branches], dim=1)
        # after ReLU, 0 at padding is never above the largest value
        shares = token_mask(ids).to(found.dtype)[:, None, None]
        return cast(Tensor, self.joined((found * shares).amax(dim=(2, 3))))


class TextCNN(StagesOfBlocks[TextConvolutionSettings]):
    """Convolutions of several kernel sizes over embeddings, the largest value of each filter, and a classifier.

    One hidden layer less than the depth follows the filters; depth 1 is the network of Kim 2014.
    """

    summary = "convolutions over the tokens of a text with several kernel sizes"
    source = "Kim 2014, arXiv 1408.5882"
    base_widths = (64,)
    base_depths = (1,)
    has_removable_blocks = False
    settings = TextConvolutionSettings

    def fits(self, signature: Signature) -> bool:
        """Return True for one input of token ids (N, T), and one vector as output."""
        return takes_tokens(signature)

    def _layers(
        self, depths: tuple[int, ...], base_widths: tuple[int, ...], settings: TextConvolutionSettings
    ) -> FreeLayers:
        """The embedding, the filters of each kernel size, and the hidden layers."""
        branches = [(f"stem.branches.{place}.conv", base_widths[0]) for place in range(len(settings.kernel_sizes))]
        hidden = [(f"stages.0.{block}.linear", base_widths[0]) for block in range(depths[0] - 1)]
        return [("stem.embedding", base_widths[0]), *branches, *hidden]

    def build(self, architecture: Architecture) -> StagedNetwork:
        """A freshly initialised network."""
        kernels = self.own(architecture.settings).kernel_sizes
        filters = [architecture.channels(f"stem.branches.{place}.conv") for place in range(len(kernels))]
        width = architecture.channels("stem.embedding")
        stem = TokenConvolutions(architecture.signature.vocabulary, width, filters, kernels)
        return classified(architecture, stem, sum(filters))
