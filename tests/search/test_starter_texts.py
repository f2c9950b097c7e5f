"""A starter study of a file of texts: guessed columns, and a study that runs as it was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bert_folders import WIDTH, write_bert_folder
from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError
from nas_compress.search.run import run_study
from nas_compress.search.starter.encoders import encoder_folder, encoder_ids
from nas_compress.search.starter.text_columns import guessed_columns
from nas_compress.search.starter_study import Starter, write_starter
from running import own_cache as own_cache

GOOD = ("a fine joy to see", "great fun for all", "warm, kind and clever", "a rare delight of a film")
BAD = ("dull from the start", "no plot at all", "a sad, tired bore", "long and cold and very bad")
ROWS = [(text, word) for _ in range(15) for word, texts in (("yes", GOOD), ("no", BAD)) for text in texts]


def lines(*names: str) -> str:
    head = ",".join(names) + "\n" if names else ""
    return head + "".join(f'{number},"{text}",{word}\n' for number, (text, word) in enumerate(ROWS))


@pytest.mark.parametrize(
    ("name", "content", "text", "label"),
    [
        ("a.csv", lines("id", "review", "verdict"), ("review",), "verdict"),
        ("a.csv", lines(), (2,), 3),
        ("a.csv", "no,dull\nno,sad\nyes,joy\nyes,fun\n", (2,), 1),
        ("a.tsv", "topic\ttitle\tbody\n" + "1\tone two three\tfour five six seven\n2\ta b c\td e f\n" * 2,
         ("title", "body"), "topic"),
        ("a.jsonl", "".join(json.dumps({"n": n, "s": text, "Label": word}) + "\n" for n, (text, word) in
                            enumerate(ROWS)), ("s",), "Label"),
    ],
)  # fmt: skip
def test_columns_are_guessed(
    name: str, content: str, text: tuple[str | int, ...], label: str | int, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    found = guessed_columns(tmp_path / name, where="--data")
    assert (found.text, found.label) == (text, label)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must hold samples, but is empty"),
        (b"text,label\none,1\ntwo,2\n", "one column must hold labels"),
        (b"label\na\nb\na\nb\n", "must have columns for texts and for labels"),
        (b"text,label\n\xff\xfe,1\n", "must be a table of texts in UTF-8"),
    ],
)
def test_a_file_without_texts_or_labels_is_refused_in_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(RequestError, match=words) as caught:
        write_starter(Starter(folder=tmp_path / "mine", data=str(tmp_path / "a.csv")))
    assert "\n" not in str(caught.value) and not (tmp_path / "mine").exists()


def test_words_are_hashed_where_word_pieces_cannot_be_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_compress.search.starter.text_columns.find_spec", lambda name: None)
    (tmp_path / "reviews.csv").write_text(lines("id", "review", "verdict"))
    said: list[str] = []
    study, _ = write_starter(Starter(folder=tmp_path / "mine", data=str(tmp_path / "reviews.csv")), said.append)
    assert said[1].startswith("words are hashed (hash_buckets): word pieces need tokenizers, pip install ")
    data = read_study(study).spec.data
    assert (data.hash_buckets, data.vocabulary) == (8000, None)


@pytest.mark.parametrize("trained", [True, False])
def test_an_encoder_teaches_students_with_word_pieces_of_their_own(trained: bool, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "reviews.csv").write_text(lines("id", "review", "verdict"))
    head = {"classifier.weight": torch.randn(2, WIDTH), "classifier.bias": torch.zeros(2)}
    kind = "BertForSequenceClassification" if trained else "BertModel"
    write_bert_folder(tmp_path / "my-bert", extra=head if trained else {}, architectures=[kind])
    starter = Starter(
        folder=tmp_path / "mine", data=str(tmp_path / "reviews.csv"), model=str(tmp_path / "my-bert"), space="text"
    )
    study, _ = write_starter(starter)
    spec = read_study(study).spec
    assert (spec.data.vocabulary, spec.data.vocabulary_size, spec.data.max_tokens) == ("teacher", (4000,), 16)
    assert (spec.teacher.hugging_face, spec.teacher.fine_tune) == ("../my-bert", None if trained else "all")


def test_an_encoder_without_tokenizers_has_a_pruned_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_compress.search.starter.encoders.find_spec", lambda name: None)
    assert "pruned_vocabulary = true" in encoder_ids() and "vocabulary_size" not in encoder_ids()
    write_bert_folder(tmp_path / "my-vit", model_type="vit")
    assert encoder_folder(str(tmp_path / "my-vit")) is encoder_folder(None) is None


@pytest.mark.slow
def test_the_study_of_a_file_of_texts_runs_unchanged(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "reviews.csv").write_text(lines("id", "review", "verdict"))
    said: list[str] = []
    study, _ = write_starter(Starter(folder=tmp_path / "mine", data="reviews.csv"), said.append)
    assert (
        said[0] == "texts of column review, labels of column verdict; study.toml has both, as text_column, label_column"
    )
    assert said[1].startswith("expected: about ")
    spec = read_study(study).spec
    assert (spec.data.text, spec.data.text_columns, spec.data.label_column) == (
        "../reviews.csv",
        ("review",),
        "verdict",
    )
    assert spec.teacher.family == "text_cnn"
    study.write_text(study.read_text().replace("trials = 24", "trials = 2"))
    front = run_study(study)
    assert front.points and front.teacher is not None
