"""Texts from files: columns, splits, labels, word pieces, and one line for all that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest

from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.text.parts import TextSettings
from nas_compress.data.text.tables import TextFiles, read_texts
from nas_compress.data.text.vocabulary import trained_pieces
from nas_compress.errors import RequestError
from nas_compress.files import cache_folder

GOOD, BAD = ("a fine film", "great fun, truly", "what a joy"), ("dull", "a sad bore", "no plot. no fun")
ROWS = [(text, label) for _ in range(8) for texts, label in ((GOOD, "good"), (BAD, "bad")) for text in texts]
TABLE = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(path: str, **values: object) -> dict[str, tuple[list[str], list[object]]]:
    found = read_texts(
        TextFiles(path=path, **values),  # type: ignore[arg-type]
        base=None,
        numbers=False,
        seed=0,
        where="study.toml: data.text",
    )
    return {split: (list(texts), labels.tolist()) for split, (texts, labels) in found.items()}


def load(path: str, size: int = 100, longest: int = 128, **values: object) -> Dataset:
    pytest.importorskip("tokenizers")
    return load_dataset(
        texts=TextFiles(path=path, **values),  # type: ignore[arg-type]
        text_settings=TextSettings(vocabulary=size, longest=longest),
        where="study.toml: data.text",
    )


def test_a_csv_file_has_named_columns_and_quoted_texts() -> None:
    Path("a.csv").write_text('label,title,text\n1,Hello,"one, two\nthree"\n0,Bye,"say ""no"""\n')
    assert read("a.csv")["train"] == (["one, two\nthree", 'say "no"'], [1, 0])
    assert read("a.csv", text=("title", "text"))["train"][0] == ["Hello one, two\nthree", 'Bye say "no"']


def test_columns_of_a_file_without_names_have_numbers() -> None:
    Path("news.csv").write_text('"3","Oil","prices rise"\n"1","War","ends"\n')
    assert read("news.csv", text=(2, 3), label=1)["train"] == (["Oil prices rise", "War ends"], ["3", "1"])


def test_json_lines_and_tabs_are_read_too() -> None:
    Path("a.jsonl").write_text('{"text": "caf\\u00e9", "label": true}\n\n{"text": "", "label": false}\n')
    assert read("a.jsonl")["train"] == (["café", ""], [1, 0])
    Path("a.tsv").write_text("text\tlabel\na, b\tx\n")
    assert read("a.tsv")["train"] == (["a, b"], ["x"])


def test_a_folder_has_a_file_for_each_split() -> None:
    Path("in").mkdir()
    for name, text in (("train.csv", "first"), ("dev.jsonl", "second"), ("test.tsv", "third")):
        content = {"csv": f"text,label\n{text},0\n", "tsv": f"text\tlabel\n{text}\t0\n"}
        Path("in", name).write_text(content.get(name[-3:], json.dumps({"text": text, "label": 0})))
    found = read("in")
    assert {split: texts for split, (texts, _) in found.items()} == {
        "train": ["first"],
        "validation": ["second"],
        "test": ["third"],
    }


def test_a_share_of_a_single_file_is_the_test_split_in_all_classes() -> None:
    Path("a.csv").write_text(TABLE)
    found = read("a.csv", test_share=0.25)
    assert [len(labels) for _, labels in (found["train"], found["test"])] == [36, 12]
    assert sorted(found["test"][1]) == ["bad"] * 6 + ["good"] * 6
    assert read("a.csv", test_share=0.25) == found


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "review,label\nx,1\n", "columns must be among those of a.csv (review, label), but got 'text'"),
        ("a.csv", "text,label\n", "a.csv must hold samples, but is empty"),
        ("a.csv", "", "a.csv must hold samples, but is empty"),
        ("a.csv", b"text,label\nna\xefve,1\n", "texts must be UTF-8, but got byte 0xef at 13 of a.csv; save the file"),
        ("a.csv", 'text,label\n"open,1\n', "a.csv must be a table of texts, but got unexpected end of data"),
        ("a.csv", "text,label\nonly a text\n", "columns must be among those of a.csv (text), but got 'label'"),
        ("a.csv", "text,label\na, b,1\n", "got 3 columns in line 2 for 2 names; texts with commas need quotes"),
        ("a.jsonl", '{"text": 3, "label": 0}\n', "texts must be strings, but got int in line 1 of a.jsonl"),
        ("a.jsonl", '["a"]\n', "a.jsonl must be a table of texts, but got list in line 1; each line must be an object"),
        ("a.jsonl", "{\n", "a.jsonl must be a table of texts, but got Expecting property name"),
        (
            "a.csv",
            "text,label\nx,1\ny, \n",
            "words or numbers, but got an empty text in line 3 of a.csv; leave out texts",
        ),
        ("a.jsonl", '{"text": "x", "label": null}', "must be words or numbers, but got null in line 1 of a.jsonl"),
        ("a.jsonl", '{"text": "x", "label": ["a"]}', 'must be words or numbers, but got ["a"] in line 1 of a.jsonl'),
        (
            "a.csv",
            "text,text,label\nx,y,1\n",
            "a.csv must be a table of texts, but got several columns named 'text' in",
        ),
        (
            "a.csv",
            "text,label\na,1.5\nb,2.5\nc,0.5\n",
            "column 'label' must hold classes, but got many numbers such as 0.5",
        ),
        ("a.txt", "hello", "a file of texts must end in .csv, .tsv, .jsonl, but got a.txt"),
        ("other.csv", "", "texts must be in a file or a folder, but there is none at "),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(name: str, content: str | bytes, said: str) -> None:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RequestError) as caught:
        read("missing.csv" if name == "other.csv" else name)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).endswith("(study.toml: data.text)")


def test_a_label_that_is_also_a_text_is_refused() -> None:
    Path("a.csv").write_text(TABLE)
    with pytest.raises(RequestError, match="column of labels must not be one of texts, but got 'label' in both"):
        read("a.csv", text=("text", "label"))


def test_a_share_that_is_no_number_is_refused() -> None:
    Path("a.csv").write_text(TABLE)
    with pytest.raises(RequestError, match="test_share must leave samples in train and test, but got nan"):
        read("a.csv", test_share=float("nan"))


def test_a_text_may_be_very_long_and_labels_have_spaces_around_them() -> None:
    Path("a.csv").write_text(f"\ntext,label\n{'word ' * 40_000}, good\nshort,good \n")
    texts, labels = read("a.csv")["train"]
    assert [len(text) for text in texts] == [200_000, 5] and labels == ["good", "good"]


def test_texts_become_padded_ids_of_the_training_texts_pieces() -> None:
    Path("a.csv").write_text(TABLE)
    data = load("a.csv", test_share=0.25)
    (spec,) = data.task.signature.inputs
    ids = data.train.inputs["input"]
    assert spec.pieces is not None and spec.values == len(spec.pieces.pieces) <= 100
    assert ids.dtype.is_signed and (ids[:, 0] > 0).all() and int(ids.max()) < spec.values
    assert data.task.class_names == ("bad", "good")
    assert spec.lengths is not None and 1 <= spec.lengths.mean <= spec.lengths.p95
    row, label = data.train.inputs["input"][0], int(data.train.targets["label"][0])
    text = "".join(spec.pieces.pieces[number].removeprefix("##") for number in row.tolist() if number)
    assert text in {"".join(given.split()) for given, name in ROWS if name == data.task.class_names[label]}


def test_long_texts_are_cut_and_empty_ones_are_one_unknown_piece() -> None:
    rows = [("", "a"), ("x " * 500, "b")] * 20
    Path("a.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    data = load("a.csv", longest=7)
    lengths = (data.train.inputs["input"] != 0).sum(dim=1)
    assert sorted(set(lengths.tolist())) == [1, 7]


def test_the_fingerprint_depends_on_texts_and_vocabulary() -> None:
    Path("a.csv").write_text(TABLE)
    Path("b.csv").write_text(TABLE.replace("a joy", "a bore"))
    prints = [load("a.csv").fingerprint, load("a.csv", longest=2).fingerprint, load("b.csv").fingerprint]
    assert len(set(prints)) == 3 and load("a.csv").fingerprint == prints[0]


def test_word_pieces_are_the_same_each_time_and_kept() -> None:
    pytest.importorskip("tokenizers")
    texts, lines = [text for text, _ in ROWS], list[str]()

    def pieces() -> tuple[str, ...]:
        return tuple(trained_pieces(texts, size=100, longest=8, where="here", notice=lines.append).pieces)

    first = pieces()
    (kept,) = (cache_folder() / "vocabularies").iterdir()
    assert first == pieces() and first[:2] == ("[PAD]", "[UNK]") and list(first[2:]) == sorted(first[2:])
    kept.unlink()
    assert pieces() == first
    assert not lines
    kept.write_bytes(kept.read_bytes()[:-9])
    assert pieces() == first
    assert len(lines) == 1 and lines[0].endswith("The word pieces are made again.")


def test_a_vocabulary_does_not_depend_on_the_order_of_equally_frequent_pairs(here: Path) -> None:
    pytest.importorskip("tokenizers")
    random = Random(0)
    words = ["".join(random.choices("abcdefghij", k=5)) for _ in range(60)]
    found = set()
    for _ in range(4):
        # each training of the library numbers its tables differently
        kept = here / "cache" / "vocabularies"
        for file in kept.glob("*"):
            file.unlink()
        found.add(trained_pieces(words, size=100, longest=8, where="here", notice=pytest.fail).pieces)
    assert len(found) == 1


def test_a_vocabulary_is_not_larger_than_asked_for_with_more_letters() -> None:
    pytest.importorskip("tokenizers")
    texts = ["".join(chr(0x4E00 + number) for number in range(start, 200)) for start in range(0, 200, 10)]
    pieces = trained_pieces(texts, size=100, longest=8, where="here", notice=pytest.fail).pieces
    assert len(pieces) == 100 and chr(0x4E00 + 199) in pieces and chr(0x4E00) not in pieces


def test_a_vocabulary_knows_no_text_of_a_drawn_validation_split() -> None:
    own = [chr(0x0430 + number) for number in range(32) if chr(0x0430 + number) not in "йё"]
    Path("a.csv").write_text("text,label\n" + "".join(f"film {letter},{n % 2}\n" for n, letter in enumerate(own)))
    data = load("a.csv")
    (spec,) = data.task.signature.inputs
    assert spec.pieces is not None and len(data.validation) > 0
    assert len(set(own) & set(spec.pieces.pieces)) == len(data.train)
    assert data.validation.inputs["input"][:, 1].unique().tolist() == [1], "letters of these texts alone are unknown"


def test_a_vocabulary_without_room_for_letters_is_refused() -> None:
    Path("a.csv").write_text(TABLE)
    with pytest.raises(RequestError, match="vocabulary >= 100 must hold, but got vocabulary=5"):
        load("a.csv", size=5)


def test_images_have_no_place_for_texts() -> None:
    Path("a.csv").write_text(TABLE)
    with pytest.raises(RequestError, match="shift and flip are for images, but got shift=1"):
        load_dataset(texts=TextFiles(path="a.csv"), shift=1)


def test_numbers_may_be_predicted_from_texts() -> None:
    pytest.importorskip("tokenizers")
    Path("a.csv").write_text("text,label\n" + "".join(f'"{text}",{len(text)}.5\n' for text, _ in ROWS))
    data = load_dataset(
        texts=TextFiles(path="a.csv"), text_settings=TextSettings(vocabulary=100, longest=9), task="regression"
    )
    assert data.task.classes is None and np.isfinite(next(iter(data.train.targets.values())).numpy()).all()
