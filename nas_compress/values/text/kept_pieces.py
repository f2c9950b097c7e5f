"""A given vocabulary without the word pieces that texts do not need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from nas_compress.errors import RequestError
from nas_compress.values.text.word_pieces import FIRST, LAST, PADDING, UNKNOWN, WordPieces

INSIDE = "##"
"""Begin of a piece inside a word."""


def pruned_pieces(pieces: WordPieces, texts: Sequence[str], *, size: int | None = None) -> WordPieces:
    """Return the word pieces that occur in the texts, in their order, with marks and the letters of these texts.

    Letters divide a word of other texts whose longer pieces are left out. The texts keep their pieces if all that occur
    are kept. size: number of pieces, the most frequent ones; None for all that occur.
    RequestError if `size` has no room for marks and letters.

    >>> pieces = WordPieces(pieces=("[PAD]", "[UNK]", "a", "b", "film", "##s", "##a", "ab", "##b"), longest=8)
    >>> pruned_pieces(pieces, ["Films", "ab"]).pieces
    ('[PAD]', '[UNK]', 'a', 'b', 'film', '##s', '##a', 'ab', '##b')
    >>> pruned_pieces(pieces, ["Films"]).pieces
    ('[PAD]', '[UNK]', 'film', '##s')
    """
    known, counts = set(pieces.pieces), Counter[int]()
    for text in texts:
        counts.update(pieces.encode(text))
    found = {pieces.pieces[number]: times for number, times in counts.items()}
    letters = {letter for piece in found if not _is_mark(piece) for letter in piece.removeprefix(INSIDE)}
    marks = {PADDING, UNKNOWN} | ({FIRST, LAST} if pieces.framed else set())
    always = (marks | letters | {INSIDE + letter for letter in letters}) & known
    if size is not None and size < len(always):
        rule = f"a pruned vocabulary must have {len(always)} word pieces or more, for the letters of its texts"
        raise RequestError(f"{rule}, but got {size}")
    order = sorted(found.keys() - always, key=lambda piece: (-found[piece], piece))
    kept = always | set(order if size is None else order[: size - len(always)])
    return replace(pieces, pieces=tuple(piece for piece in pieces.pieces if piece in kept))


def rows_of(own: WordPieces, theirs: WordPieces) -> tuple[int, ...] | None:
    """Return the id among `theirs` of each piece of `own`; None if one of them is missing there.

    >>> few = WordPieces(pieces=("[PAD]", "[UNK]", "film"), longest=8)
    >>> rows_of(few, WordPieces(pieces=("[PAD]", "[UNK]", "a", "film"), longest=8)), rows_of(few, few)
    ((0, 1, 3), (0, 1, 2))
    """
    ids = {piece: number for number, piece in enumerate(theirs.pieces)}
    if not all(piece in ids for piece in own.pieces):
        return None
    return tuple(ids[piece] for piece in own.pieces)


def _is_mark(piece: str) -> bool:
    return piece in (PADDING, UNKNOWN, FIRST, LAST)
