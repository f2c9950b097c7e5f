"""Mask and lengths of padded token ids, computed inside a network."""

from __future__ import annotations

import torch
from torch import Tensor

from nas_compress.errors import RequestError
from nas_compress.values.signature import Signature

PADDING = 0
"""The id of padding, which is behind the tokens of a sample."""


def token_mask(ids: Tensor) -> Tensor:
    """Return bool (N, T): True at tokens, False at padding.

    >>> token_mask(torch.tensor([[5, 3, 0]])).tolist()
    [[True, True, False]]
    """
    return ids.to(torch.bool)  # one operator of the file; PADDING is 0


def token_counts(ids: Tensor) -> Tensor:
    """Return the number of tokens of each sample, int32 (N,), as the sequence lengths of recurrent ONNX nodes.

    >>> token_counts(torch.tensor([[5, 3, 0], [1, 1, 1]])).tolist()
    [2, 3]
    """
    return token_mask(ids).to(torch.int32).sum(dim=1, dtype=torch.int32)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the tokens of each sample, (N, C).

    values: (N, T, C), finite also at padding. mask: bool (N, T) with a True in each row.

    >>> masked_mean(torch.tensor([[[2.0], [4.0], [9.0]]]), torch.tensor([[True, True, False]])).tolist()
    [[3.0]]
    """
    shares = mask.unsqueeze(-1).to(values.dtype)
    return (values * shares).sum(dim=1) / shares.sum(dim=1)


def masked_max(values: Tensor, mask: Tensor) -> Tensor:
    """Return the largest value over the tokens of each sample, (N, C). values: (N, T, C). mask: bool (N, T).

    >>> masked_max(torch.tensor([[[-2.0], [-4.0], [0.0]]]), torch.tensor([[True, True, False]])).tolist()
    [[-2.0]]
    """
    least = torch.finfo(values.dtype).min
    return values.masked_fill(~mask.unsqueeze(-1), least).amax(dim=1)


def pad_batch(rows: list[Tensor]) -> Tensor:
    """Return ids int32 (N, T) of samples of several lengths, padded to the longest.

    >>> pad_batch([torch.tensor([1]), torch.tensor([2, 3])]).tolist()
    [[1, 0], [2, 3]]
    """
    padded: Tensor = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)
    return padded.to(torch.int32)


def takes_tokens(signature: Signature) -> bool:
    """Return True for one input of token ids (N, T), and one vector as output."""
    try:
        _ = signature.vocabulary, signature.vector_size
    except RequestError:
        return False
    return True
