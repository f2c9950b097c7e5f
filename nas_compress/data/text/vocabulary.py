"""Word pieces of the training texts, made by the package `tokenizers` once and kept in the cache."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas_compress.callbacks import Notice
from nas_compress.errors import DamagedFileError, RequestError, first_line, refusal
from nas_compress.files import read_json, read_sealed_json, writable_cache_folder, write_sealed_json
from nas_compress.optional_imports import optional_package
from nas_compress.values.text.word_pieces import FIRST, LAST, PADDING, UNKNOWN, WordPieces

DEFAULT_SIZE, DEFAULT_LONGEST = 4_000, 128
"""Word pieces of a vocabulary, and ids of a text, if a study names no numbers."""

TOKENIZER = "tokenizer_config.json"
"""File in a folder of Hugging Face that says if texts become lower case."""

LEAST_FRAMED = 3
"""Least number of ids of a text between two marks."""

LEAST_SIZE = 100
"""Smallest vocabulary: the letters and marks of most texts need as many."""


def trained_pieces(texts: Sequence[str], *, size: int, longest: int, where: str, notice: Notice) -> WordPieces:
    """Return at most `size` word pieces of these texts, the same for the same texts on every machine.

    The result is kept in the cache.
    longest: see `WordPieces`. notice: receives a line about a damaged file, which is made again.
    RequestError if `tokenizers` is missing.
    """
    digest = hashlib.sha256(f"2 {size}\n".encode())
    for text in texts:
        digest.update(text.encode() + b"\0")
    path = writable_cache_folder() / "vocabularies" / f"{digest.hexdigest()[:16]}.json"
    try:
        found = read_sealed_json(path)["pieces"]
        return WordPieces(pieces=tuple(map(str, found)), longest=longest)
    except FileNotFoundError:
        pass
    except (DamagedFileError, KeyError, TypeError) as error:
        notice(f"{error}. The word pieces are made again.")
    try:
        tokenizers = optional_package("tokenizers", needed_for="a vocabulary of word pieces", extra="text")
    except RequestError as error:
        raise refusal(str(error), where) from error
    pieces = _train(tokenizers, texts, size)
    write_sealed_json(path, {"pieces": pieces})
    return WordPieces(pieces=tuple(pieces), longest=longest)


def given_pieces(path: Path, *, longest: int | None, where: str) -> WordPieces:
    """Return the word pieces of a file with one in each line, such as `vocab.txt` of an uncased BERT.

    Texts are between `[CLS]` and `[SEP]` if the file has both. longest: see `WordPieces`, by default DEFAULT_LONGEST.
    RequestError for a file that cannot be used.
    """
    try:
        pieces = tuple(path.read_bytes().decode().rstrip("\n").split("\n"))
        settings = read_json(path.parent / TOKENIZER) if (path.parent / TOKENIZER).is_file() else {}
        cased = isinstance(settings, dict) and settings.get("do_lower_case") is False
    except (OSError, ValueError) as error:
        raise refusal(f"a vocabulary must be a readable file, but {path} is not: {first_line(error)}", where) from error
    lacking = next((piece for piece in (PADDING, UNKNOWN) if piece not in pieces), None)
    twice = next((piece for piece, times in Counter(pieces).items() if times > 1), None)
    if lacking is not None or twice is not None or pieces[0] != PADDING:
        got = f"no {lacking}" if lacking else f"{twice!r} twice" if twice is not None else f"{pieces[0]!r} first"
        rule = f"a vocabulary must be word pieces, each once, with {PADDING} first and {UNKNOWN}"
        raise refusal(f"{rule}, but {path} has {got}", where)
    if cased:
        raise refusal(f"a vocabulary must be of lower-case texts, but {path.parent / TOKENIZER} keeps capitals", where)
    framed = {FIRST, LAST} <= set(pieces)
    if longest is not None and framed and longest < LEAST_FRAMED:
        raise refusal(f"max_tokens >= {LEAST_FRAMED} must hold with {FIRST} and {LAST}, but got {longest}", where)
    return WordPieces(pieces=pieces, longest=longest or DEFAULT_LONGEST, framed=framed)


def _train(tokenizers: Any, texts: Sequence[str], size: int) -> list[str]:
    model = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token=UNKNOWN))
    model.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    model.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    letters = _letters(model, texts)
    room = size - len((PADDING, UNKNOWN))
    if len(letters) > room:
        frequent = sorted(letters, key=lambda letter: (-letters[letter], letter))
        return [PADDING, UNKNOWN, *sorted(frequent[:room])]
    # pairs of equal count are joined in the order of their ids, which are random for letters that are not given
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[PADDING, UNKNOWN, *sorted(letters)], show_progress=False
    )
    model.train_from_iterator(texts, trainer)
    return [PADDING, UNKNOWN, *sorted(set(model.get_vocab()) - {PADDING, UNKNOWN})]


def _letters(model: Any, texts: Sequence[str]) -> Counter[str]:
    """Return how often each letter begins a word, and, with `##`, how often it is inside one."""
    counts: Counter[str] = Counter()
    for text in texts:
        for word, _ in model.pre_tokenizer.pre_tokenize_str(model.normalizer.normalize_str(text)):
            counts.update((word[0], *(f"##{letter}" for letter in word[1:])))
            counts.update(dict.fromkeys(word[1:], 0))
    return counts
