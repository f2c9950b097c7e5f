"""Mean of embeddings for texts: the network that every other one of texts must beat."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from nas_compress.models.family import FreeLayers
from nas_compress.models.input_output_scaling import output_scale
from nas_compress.models.inputs.hashed_words import token_input
from nas_compress.models.layers import ActivationPoint, StagedNetwork, StagesOfBlocks
from nas_compress.models.networks.mlp import LinearUnit, VectorHead
from nas_compress.models.token_padding import PADDING, takes_tokens, token_mask
from nas_compress.values.architecture import Architecture
from nas_compress.values.family_settings import BagSettings
from nas_compress.values.signature import Signature


class MeanOfTokens(nn.Module):
    """Token ids (N, T) to the mean of the embeddings of each sample, (N, width).

    The row of padding is and stays 0, so the sum over all steps is that over the tokens.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        self.point = ActivationPoint()

    def forward(self, ids: Tensor) -> Tensor:
        """Map (N, T) to (N, width); padding does not count."""
        values: Tensor = self.embedding(ids)
        counts = token_mask(ids).to(values.dtype).sum(dim=1, keepdim=True)
        return cast(Tensor, self.point(values.sum(dim=1) / counts))


class TextBag(StagesOfBlocks[BagSettings]):
    """The mean of the embeddings of all tokens, hidden layers with ReLU, and a classifier.

    One hidden layer less than the depth: depth 1 is fastText's bag of tokens, more is a deep averaging network (Iyyer
    et al. 2015, ACL). The order of the words has no influence.
    """

    summary = "mean of the embeddings of a text, without the order of its words"
    source = "Joulin et al. 2016, arXiv 1607.01759"
    base_widths = (64,)
    base_depths = (1,)
    has_removable_blocks = False
    settings = BagSettings

    def fits(self, signature: Signature) -> bool:
        """Return True for one input of token ids (N, T), and one vector as output."""
        return takes_tokens(signature)

    def _layers(self, depths: tuple[int, ...], base_widths: tuple[int, ...], settings: BagSettings) -> FreeLayers:
        """The embedding and the hidden layers."""
        hidden = [(f"stages.0.{block}.linear", base_widths[0]) for block in range(depths[0] - 1)]
        return [("stem.embedding", base_widths[0]), *hidden]

    def build(self, architecture: Architecture) -> StagedNetwork:
        """A freshly initialised network."""
        stream = architecture.channels("stem.embedding")
        return classified(architecture, MeanOfTokens(architecture.signature.vocabulary, stream), stream)


def classified(architecture: Architecture, stem: nn.Module, stream: int) -> StagedNetwork:
    """Return a network of `stem`, the hidden layers of an architecture, and its classifier.

    stream: number of outputs of the stem. The hidden layers are one less than the depth.
    """
    blocks = list[nn.Module]()
    for block in range(architecture.depths[0] - 1):
        outputs = architecture.channels(f"stages.0.{block}.linear")
        blocks.append(LinearUnit(stream, outputs))
        stream = outputs
    head = VectorHead(stream, architecture.signature.vector_size, scale=output_scale(architecture))
    return StagedNetwork(
        token_input(architecture),
        stem,
        [nn.Sequential(*blocks)],
        head,
        output=architecture.signature.output_names[0],
    )
