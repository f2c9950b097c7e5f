"""Word pieces of the standard library's code are those of Hugging Face's tokenizers, on any text."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nas_compress.data.text.tables import TextFiles, read_texts
from nas_compress.data.text.vocabulary import trained_pieces
from nas_compress.values.text.word_pieces import WordPieces, words

WORDS = (
    "film",
    "films",
    "filming",
    "un",
    "unhappy",
    "joy",
    "a",
    "the",
    "2024",
    "don't",
    "co-op",
    "naïve",
    "Straße",
    "é",
)
MARKS = (".", "!?", "…", "—", "(", '"', "'", "$", "€", "^", "`", "_", "\u3001")
ODD = (
    "日本語",
    "한국어",
    "نص",
    "हिन्दी",
    "😀👍🏽",
    "\u200b",
    "\ufeff",
    "\x00",
    "\t",
    "\u00a0",
    "\u2028",
    "ﬁ",
    "İ",
    "ǅ",
    "x" * 150,
)


def made_texts(count: int, seed: int = 0) -> list[str]:
    """Words, marks and odd characters in any order, with and without spaces."""
    random = Random(seed)
    pool = WORDS * 6 + MARKS * 2 + ODD
    return [
        "".join(random.choice(pool) + random.choice(("", " ", " ", "  ")) for _ in range(random.randint(0, 12)))
        for _ in range(count)
    ]


def reference(pieces: WordPieces) -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    ids = {piece: number for number, piece in enumerate(pieces.pieces)}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab=ids, unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return made


def differing(texts: list[str], pieces: WordPieces) -> list[str]:
    wanted = reference(pieces).encode_batch(texts)
    return [text for text, found in zip(texts, wanted, strict=True) if pieces.encode(text) != (found.ids or [1])]


def trained(texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WordPieces:
    pytest.importorskip("tokenizers")
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path))
    return trained_pieces(texts, size=300, longest=10**6, where="here", notice=pytest.fail)


def test_ten_thousand_made_texts_have_the_same_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = made_texts(10_000)
    assert not differing(texts, trained(texts[:500], tmp_path, monkeypatch))


def test_real_texts_have_the_same_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(os.environ.get("NAS_COMPRESS_DATA", "nowhere")) / "ag-news" / "test.csv"
    if not path.is_file():
        pytest.skip("NAS_COMPRESS_DATA has no ag-news/test.csv")
    files = TextFiles(path=str(path), text=(2, 3), label=1)
    texts = list(read_texts(files, base=None, numbers=False, seed=0, where="here")["train"][0])
    assert not differing(texts, trained(texts[:1000], tmp_path, monkeypatch))


def test_the_longest_known_piece_comes_first() -> None:
    pieces = WordPieces(pieces=("[PAD]", "[UNK]", "un", "##hap", "##happy", "##h", "u", "!"), longest=8)
    assert pieces.encode("Unhappy!") == [2, 4, 7]
    assert pieces.encode("unhap") == [2, 3]
    assert pieces.encode("unhx un") == [1, 2], "a word with an unknown part is one unknown piece"
    assert pieces.encode("") == pieces.encode(" \t\n") == [1]
    assert WordPieces(pieces=pieces.pieces, longest=2).encode("un! un!") == [2, 7]


def test_special_pieces_cannot_be_written_into_a_text() -> None:
    pieces = WordPieces(pieces=("[PAD]", "[UNK]", "[", "]", "pad"), longest=8)
    assert pieces.encode("[PAD]") == [2, 4, 3]


def test_words_are_lower_case_without_accents_and_marks_are_words() -> None:
    assert list(words("Crème, brûlée!  日本")) == ["creme", ",", "brulee", "!", "日", "本"]


def test_a_vocabulary_survives_its_metadata() -> None:
    pieces = WordPieces(pieces=("[PAD]", "[UNK]", "é", "##日"), longest=5)
    assert WordPieces.from_metadata(pieces.metadata()) == pieces
