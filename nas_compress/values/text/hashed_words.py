"""Texts to ids of words by a hash of their bytes, as files compute them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from nas_compress.errors import RequestError

PADDING, NO_WORDS, FIRST = 0, 1, 2
"""Ids of padding, of a text without words, and of the first bucket."""

PRIME = 2**31 - 1
"""Hashes are sums modulo this number."""

MOST = 10_000
"""Largest number of bytes of a word on average."""

POSITIONS = 64
"""Bytes of a word with factors of their own; further ones begin again with the first factor."""

FACTORS = tuple(pow(1_103_515_245, power, PRIME) for power in range(1, POSITIONS + 1))
"""Factor of each byte of a word."""

SEPARATOR, LETTER, MARK = 0, 1, 2
"""Kinds of bytes: between words, inside a word, and a word of its own."""


def _kind(byte: int) -> int:
    if byte <= 0x20 or byte == 0x7F:
        return SEPARATOR
    return LETTER if byte >= 0x80 or chr(byte).isalnum() else MARK


KINDS = tuple(map(_kind, range(256)))
"""Kind of each byte. All bytes of characters beyond ASCII are letters."""

CODES = tuple((byte + 32 if 0x41 <= byte <= 0x5A else byte) if KINDS[byte] else 0 for byte in range(256))
"""Byte as it is hashed: small letters for capital ones of ASCII, 0 for separators."""


@dataclass(frozen=True, kw_only=True)
class HashedWords:
    """Words of a text as ids, by a hash of their UTF-8 bytes. Different words may have the same id.

    A word is a run of letters, digits and bytes beyond ASCII, or a single mark of ASCII. White space and control
    characters separate words. buckets: number of different ids of words. longest: words of a text, at most; further
    ones are left out. spacing: bytes of a word with its separator, about, of texts whose costs are measured.

    >>> words = HashedWords(buckets=1_000, longest=3)
    >>> words.encode("A film, a FILM!"), words.encode("")
    ([64, 360, 548], [1])
    """

    buckets: int
    longest: int
    spacing: int = 5

    def __post_init__(self) -> None:
        if not (1 <= self.buckets < PRIME and self.longest >= 1 and 1 <= self.spacing <= MOST):
            got = f"buckets={self.buckets}, longest={self.longest}, spacing={self.spacing}"
            rule = f"1 <= buckets < {PRIME}, longest >= 1 and 1 <= spacing <= {MOST} must hold"
            raise RequestError(f"{rule}, but got {got}")

    @property
    def vocabulary(self) -> int:
        """Number of ids, with padding and the one of texts without words."""
        return FIRST + self.buckets

    def encode(self, text: str) -> list[int]:
        """The ids of a text, as a file computes them from its bytes."""
        words = islice(words_of(bytes_of(text)), self.longest)
        return [FIRST + hash_of(word) % self.buckets for word in words] or [NO_WORDS]

    def cut(self, text: str) -> bytes:
        """The bytes of a text up to the last word that counts; a space for an empty text."""
        content = bytes_of(text)
        if len(content) <= self.longest:
            return content or b" "
        place, found = 0, 0
        for word in words_of(content):
            place, found = content.index(word, place) + len(word), found + 1
            if found == self.longest:
                return content[:place]
        return content

    def sample(self, count: int, length: int) -> bytes:
        """Return `count` texts of `length` bytes, one after another, with words of the usual length."""
        word = b"a" * max(1, self.spacing - 1) + b" "
        return (word * (length // len(word) + 1))[:length] * count

    def metadata(self) -> dict[str, str]:
        """The settings as texts by name, for a model file."""
        return {"hashed_words": f"{self.buckets} {self.longest} {self.spacing}"}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> HashedWords:
        """Read what `metadata` wrote into a model file; RequestError if it is something else."""
        try:
            buckets, longest, spacing = map(int, metadata["hashed_words"].split())
        except ValueError as error:
            raise RequestError(f"settings of hashes in a file must be three numbers, but got {error}") from error
        return cls(buckets=buckets, longest=longest, spacing=spacing)

    def to_dict(self) -> dict[str, int]:
        """Plain values; `from_dict` reads them back."""
        return {"buckets": self.buckets, "longest": self.longest, "spacing": self.spacing}

    @classmethod
    def from_dict(cls, values: Mapping[str, int]) -> HashedWords:
        """The inverse of `to_dict`."""
        return cls(buckets=values["buckets"], longest=values["longest"], spacing=values["spacing"])


def bytes_of(text: str) -> bytes:
    r"""Return the UTF-8 bytes of a text, with spaces for NUL, which is padding.

    >>> bytes_of("a\0é")
    b'a \xc3\xa9'
    """
    return text.replace("\0", " ").encode("utf-8", errors="replace")


def words_of(content: bytes) -> Iterator[bytes]:
    """Yield the words of bytes, as they are written."""
    start = None
    for place, byte in enumerate(content):
        kind = KINDS[byte]
        if start is not None and kind != LETTER:
            yield content[start:place]
            start = None
        if kind == MARK:
            yield content[place : place + 1]
        elif kind == LETTER and start is None:
            start = place
    if start is not None:
        yield content[start:]


def hash_of(word: bytes) -> int:
    """Return the sum of all bytes times the factors of their places, modulo PRIME."""
    return sum(CODES[byte] * FACTORS[place % POSITIONS] for place, byte in enumerate(word)) % PRIME
