"""Words hashed inside a network: the definition in Python, the network and its file give the same ids for any text."""

from __future__ import annotations

import random
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.data.text.utf8_bytes import hashed_inputs, padded_bytes
from nas_compress.devices.onnx_session import file_signature, open_session
from nas_compress.devices.onnxruntime_cpu.timed_session import random_batch
from nas_compress.errors import RequestError
from nas_compress.export.onnx_file import export_onnx
from nas_compress.measurement.graph_key import structure_key
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.models.inputs.hashed_words import WordsOfBytes
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.family_settings import family_settings
from nas_compress.values.signature import Signature, TensorSpec, byte_input
from nas_compress.values.text.hashed_words import FACTORS, PRIME, HashedWords, bytes_of, hash_of, words_of

WORDS = HashedWords(buckets=500, longest=12)
LOGITS = TensorSpec(name="logits", dtype="float32", shape=("N", 3))
ODD = ("", " ", "\0", "\n\t\x7f", "a\0b", "!?", "a" * 200, "É é ﬁ", "漢字かな", "🙂🙂 ok", "x\u00a0y", "word " * 30)


def texts(count: int) -> list[str]:
    """Texts of letters, marks, white space and characters of all planes; the odd ones first."""
    chance = random.Random(0)
    planes = [chr(code) for code in (*range(1, 0x250), *range(0x4E00, 0x4E20), *range(0x1F600, 0x1F620))]
    planes = [letter for letter in planes if unicodedata.category(letter) != "Cs"]
    drawn = ["".join(chance.choices(planes, k=chance.randrange(40))) for _ in range(count // 2)]
    plain = ["".join(chance.choices("aAbBz  .,'09-", k=chance.randrange(60))) for _ in range(count - count // 2)]
    return [*ODD, *drawn, *plain][:count]


class Ids(nn.Module):
    """The first module alone."""

    def __init__(self) -> None:
        super().__init__()
        self.words = WordsOfBytes(WORDS)

    def forward(self, samples: Tensor) -> Tensor:
        return self.words(samples)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Any:
    ids = TensorSpec(name="ids", dtype="int32", shape=("N", "W"))
    signature, path = Signature(inputs=(byte_input(WORDS),), outputs=(ids,)), tmp_path_factory.mktemp("ids") / "m.onnx"
    export_onnx(Ids(), signature, path)
    assert path.stat().st_size < 4_000
    return open_session(path, signature=signature)


def unpadded(ids: NDArray[Any]) -> list[list[int]]:
    return [row[row != 0].tolist() for row in ids]


def test_a_hash_worked_out_by_hand() -> None:
    assert list(words_of(bytes_of("No, it isn't É."))) == [b"No", b",", b"it", b"isn", b"'", b"t", "É".encode(), b"."]
    first, second = FACTORS[:2]
    assert hash_of(b"Hi") == hash_of(b"hi") == (ord("h") * first + ord("i") * second) % PRIME
    found = (ord("h") * first + ord("i") * second) % PRIME % 500 + 2
    assert WORDS.encode("Hi hI") == [found, found] and WORDS.encode(" \n") == [1]


def test_python_network_and_file_agree_on_ten_thousand_texts_of_any_characters(session: Any) -> None:
    given = texts(10_000)
    expected = [WORDS.encode(text) for text in given]
    assert max(map(len, expected)) == WORDS.longest and max(map(max, expected)) < WORDS.vocabulary
    for start in range(0, len(given), 500):
        rows = padded_bytes([bytes_of(text) for text in given[start : start + 500]])
        wanted = expected[start : start + 500]
        assert unpadded(WordsOfBytes(WORDS)(torch.from_numpy(rows)).numpy()) == wanted
        assert unpadded(session.run(None, {"input": rows})[0]) == wanted


@pytest.mark.parametrize("text", ODD)
def test_a_text_alone_and_text_of_no_bytes_have_ids(text: str, session: Any) -> None:
    row = np.frombuffer(bytes_of(text), dtype=np.uint8)[None]
    (found,) = session.run(None, {"input": row})
    assert found.tolist() == [WORDS.encode(text)] == WordsOfBytes(WORDS)(torch.tensor(row)).tolist()


def test_bytes_behind_the_last_word_that_counts_are_left_out_of_data() -> None:
    given = texts(2_000)
    assert [WORDS.encode(WORDS.cut(text).decode(errors="replace")) for text in given] == list(map(WORDS.encode, given))
    spec, inputs = hashed_inputs({"train": given[:1], "validation": ["ab cd ef"] * 3}, buckets=9, longest=2)
    assert inputs["validation"].shape == (3, 5) and spec.words == HashedWords(buckets=9, longest=2, spacing=2)
    assert inputs["train"].tolist() == [[ord(" ")]], "an empty text is a space, because 0 is padding"


@pytest.mark.parametrize("family", ["text_bag", "text_cnn", "recurrent", "encoder"])
def test_every_family_of_tokens_takes_raw_texts_and_padding_never_changes_an_answer(
    family: str, tmp_path: Path
) -> None:
    known, signature = FAMILIES[family], Signature(inputs=(byte_input(WORDS),), outputs=(LOGITS,))
    assert known.fits(signature) and Signature.from_dict(signature.to_dict()) == signature
    layers = [layer for layer, _ in known.layers((1,), known.base_widths)]
    heads = known.multiples(layers, family_settings(family, {}))
    widths = tuple(Width(layer=layer, asked=0.0, channels=4 * heads.get(layer, 1)) for layer in layers)
    torch.manual_seed(0)
    network = build_student(
        known.complete(Architecture(family=family, signature=signature, depths=(1,), widths=widths))
    ).eval()
    export_onnx(network, signature, tmp_path / "model.onnx")
    session = open_session(tmp_path / "model.onnx", signature=signature)
    assert file_signature(tmp_path / "model.onnx").inputs == signature.inputs
    rows = padded_bytes([bytes_of(text) for text in texts(40)])
    further = np.pad(rows, ((0, 0), (0, 9)))
    with torch.no_grad():
        alone = torch.cat([network(torch.tensor(np.frombuffer(bytes_of(t), np.uint8)[None])) for t in texts(40)])
        together = network(torch.from_numpy(further))
    assert alone.std(dim=0).min() > 1e-3
    for found in (together.numpy(), session.run(None, {"input": rows})[0], session.run(None, {"input": further})[0]):
        np.testing.assert_allclose(found, alone.numpy(), atol=1e-5)
    one = [session.run(None, {"input": np.frombuffer(bytes_of(t), np.uint8)[None]})[0][0] for t in texts(40)]
    np.testing.assert_allclose(one, alone.numpy(), atol=1e-5)


def test_latencies_of_texts_with_other_words_have_another_key(tmp_path: Path) -> None:
    ids, keys = TensorSpec(name="ids", dtype="int32", shape=("N", "W")), set()
    for spacing in (4, 9):
        words = replace(WORDS, spacing=spacing)
        export_onnx(Ids(), Signature(inputs=(byte_input(words),), outputs=(ids,)), tmp_path / "m.onnx")
        keys.add(structure_key(tmp_path / "m.onnx"))
    assert len(keys) == 2


def test_a_file_is_timed_on_words_of_the_usual_length(session: Any) -> None:
    (timed,) = random_batch(session, 2, {"T": 12}, "m").values()
    assert timed.tobytes() == b"aaaa aaaa aa" * 2


@pytest.mark.parametrize("broken", ["", "500 12", "a b c", "0 12 5", "500 12 1000000000"])
def test_broken_settings_in_a_file_are_refused(broken: str) -> None:
    with pytest.raises(RequestError, match=r"must be three numbers|must hold"):
        HashedWords.from_metadata({"hashed_words": broken})


def test_other_types_of_raw_texts_are_refused() -> None:
    with pytest.raises(RequestError, match=r"texts must be uint8 \(N, bytes\) of 256 values, but got input: int32"):
        TensorSpec(name="input", dtype="int32", shape=("N", "T"), values=256, words=WORDS)
