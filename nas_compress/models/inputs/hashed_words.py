"""UTF-8 bytes to ids of words inside a network, with the results of its file."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.values.architecture import Architecture
from nas_compress.values.text.hashed_words import (
    CODES,
    FACTORS,
    FIRST,
    KINDS,
    LETTER,
    MARK,
    POSITIONS,
    PRIME,
    HashedWords,
)


@torch.library.custom_op("nas_compress::hashed_words", mutates_args=())
def hashed_words(texts: Tensor, buckets: int, longest: int) -> Tensor:
    """Ids int32 (N, words) of the words of texts, uint8 (N, bytes), as in `HashedWords`; 0 behind shorter texts."""
    codes, kinds, factors = _tables(texts.device)
    index = F.pad(texts.long(), (0, 1))  # a separator: texts of no bytes work too
    kind = kinds[index]
    letter = kind == LETTER
    begins = ((kind == MARK) | (letter & ~F.pad(letter, (1, -1)))).long()
    number = begins.cumsum(dim=1)
    counts = number[:, -1:]
    most = max(1, int(counts.max())) if len(counts) else 1
    nothing = torch.zeros((len(texts), most + 1), dtype=torch.int64, device=texts.device)
    place = torch.arange(index.shape[1], device=texts.device)
    begin = nothing.scatter_add(1, number, begins * place).gather(1, number)
    terms = codes[index] * factors[(place - begin) % POSITIONS]
    hashes = nothing.scatter_add(1, number, terms)[:, 1:] % PRIME % buckets + FIRST
    column = torch.arange(1, most + 1, device=texts.device)
    empty = ((counts == 0) & (column == 1)).long()
    return torch.where(column <= counts, hashes, empty)[:, :longest].to(torch.int32)


@hashed_words.register_fake
def _(texts: Tensor, buckets: int, longest: int) -> Tensor:
    words = torch.library.get_ctx().new_dynamic_size()
    return texts.new_empty((texts.shape[0], words), dtype=torch.int32)


class WordsOfBytes(nn.Module):
    """Raw UTF-8 bytes (N, bytes), 0 behind shorter texts, to ids of words (N, words)."""

    def __init__(self, words: HashedWords) -> None:
        super().__init__()
        self.words = words

    def forward(self, texts: Tensor) -> Tensor:
        """Return int32 ids, 0 behind shorter texts."""
        found: Tensor = hashed_words(texts, self.words.buckets, self.words.longest)
        return found


def token_input(architecture: Architecture) -> nn.Module:
    """Return the first module of a network of tokens: it hashes the words of raw texts, and leaves ids as they are."""
    words = architecture.signature.inputs[0].words
    return nn.Identity() if words is None else WordsOfBytes(words)


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    codes, kinds, factors = (torch.tensor(table, dtype=torch.int64, device=device) for table in (CODES, KINDS, FACTORS))
    return codes, kinds, factors
