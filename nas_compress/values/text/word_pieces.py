"""Texts to ids of word pieces; needs the standard library only."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

PADDING, UNKNOWN = "[PAD]", "[UNK]"
FIRST, LAST = "[CLS]", "[SEP]"
LONGEST_WORD = 100
ASIAN = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
         (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WordPieces:
    """A vocabulary of word pieces, as uncased BERT models have it.

    pieces: the text of each id, `[PAD]` first; `##` begins a piece inside a word. longest: ids of a text, at most;
    further ones are left out. A text without any piece is one `[UNK]`. framed: each text is between `[CLS]` and
    `[SEP]`, as BERT reads it; both count.

    >>> WordPieces(pieces=("[PAD]", "[UNK]", "film", "##s"), longest=8).encode("Films!")
    [2, 3, 1]
    """

    pieces: Sequence[str]
    longest: int
    framed: bool = False

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "WordPieces":
        """Read what `metadata` wrote into a model file."""
        pieces = tuple(metadata["word_pieces"].split("\n"))
        return cls(pieces=pieces, longest=int(metadata["longest"]), framed="framed" in metadata)

    def metadata(self) -> dict[str, str]:
        """The vocabulary as texts by name."""
        values = {"word_pieces": "\n".join(self.pieces), "longest": str(self.longest)}
        return values | {"framed": "yes"} if self.framed else values

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate(self.pieces)}

    @cached_property
    def _known(self) -> dict[str, list[int]]:
        return {}

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        ids: list[int] = []
        room = self.longest - 2 if self.framed else self.longest
        for word in words(text):
            ids += self._known[word] if word in self._known else self._known.setdefault(word, self._of_word(word))
            if len(ids) >= room:
                break
        ids = ids[:room] or [self._ids[UNKNOWN]]
        return [self._ids[FIRST], *ids, self._ids[LAST]] if self.framed else ids

    def _of_word(self, word: str) -> list[int]:
        """The longest known pieces from left to right, or `[UNK]` alone."""
        ids, start = [], 0
        while start < len(word) <= LONGEST_WORD:
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self._ids), None)
            if end is None:
                return [self._ids[UNKNOWN]]
            ids.append(self._ids[prefix + word[start:end]])
            start = end
        return ids if ids else [self._ids[UNKNOWN]]


@cache
def _is_mark(c: str) -> bool:
    return ("!" <= c <= "~" and not c.isalnum()) or unicodedata.category(c)[0] == "P"


def words(text: str) -> Iterator[str]:
    """Lower-case words without accents; each punctuation mark and each Chinese character is a word."""
    for part in "".join(map(_clean, text)).split():
        plain = "".join(c.lower() for c in unicodedata.normalize("NFD", part) if unicodedata.category(c) != "Mn")
        word = ""
        for c in plain:
            if _is_mark(c):
                yield from filter(None, (word, c))
                word = ""
            else:
                word += c
        if word:
            yield word


@cache
def _clean(c: str) -> str:
    kind = unicodedata.category(c)
    if c in "\t\n\r" or kind[0] == "Z":
        return " "
    if kind in ("Cc", "Cf", "Co", "Cs") or c == "\ufffd":
        return ""
    return f" {c} " if any(low <= ord(c) <= high for low, high in ASIAN) else c
