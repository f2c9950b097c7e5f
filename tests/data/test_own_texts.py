"""Texts and token ids that a function of the user returns, and samples without labels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.several_tasks.parts import TaskChoice
from nas_compress.data.text.parts import TextSettings
from nas_compress.data.text.tables import TextFiles
from nas_compress.errors import RequestError

Load = Callable[..., Dataset]
NUMBERS = count()

TEXTS = """
TEXTS = ["a fine film", "dull", "great fun, truly", "a sad bore"] * 4
def load():
    return {"train": (TEXTS, ["good", "bad"] * 8), "test": (TEXTS[:4], ["good", "bad"] * 2), "unlabelled": ["zebra"]}
"""

IDS = """
import numpy as np

def load():
    rows = [[5, 3], [7], [2, 2, 9], [1]] * 4
    return {"train": (rows, [0, 1] * 8), "vocabulary": 10, "unlabelled": np.array([[4, 4, 0]])}
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path / "cache"))

    def loaded(code: str, **choices: object) -> Dataset:
        name = f"own_texts_{next(NUMBERS)}"  # a module is imported once
        (tmp_path / f"{name}.py").write_text(code)
        factory = f"{name}:load"
        return load_dataset(factory=factory, folder=tmp_path, where="study.toml: data.factory", **choices)  # type: ignore[arg-type]

    return loaded


def test_a_list_of_texts_becomes_word_pieces(load: Load) -> None:
    pytest.importorskip("tokenizers")
    data = load(TEXTS, text_settings=TextSettings(vocabulary=100, longest=3))
    (spec,) = data.task.signature.inputs
    assert spec.pieces is not None and data.task.class_names == ("bad", "good")
    assert (len(data.train), data.labelled_samples, len(data.validation), len(data.test)) == (15, 14, 2, 4)
    assert data.train.inputs["input"].shape[1] == 3
    ids = data.train.inputs["input"][-1].tolist()
    text = "".join(spec.pieces.pieces[number].removeprefix("##") for number in ids if number)
    assert text and "zebra".startswith(text)  # the letters of unlabelled texts are in the vocabulary


def test_token_ids_of_any_length_are_padded(load: Load) -> None:
    notices: list[str] = []
    data = load(IDS, notice=notices.append)
    assert data.task.signature.vocabulary == 10
    assert data.train.inputs["input"].dtype.is_signed and str(data.train.inputs["input"].dtype) == "torch.int32"
    assert sorted(map(tuple, data.train.inputs["input"].tolist()))[0] == (1, 0, 0)
    assert data.train.inputs["input"][-1].tolist() == [4, 4, 0] and data.train.targets["label"][-1] == -1
    assert notices == ["token ids become int32, the type that networks read"]


def test_longer_samples_are_cut_with_a_notice(load: Load) -> None:
    notices: list[str] = []
    data = load(
        IDS.replace("np.array([[4, 4, 0]])", "[[4]]"), text_settings=TextSettings(longest=2), notice=notices.append
    )
    assert data.train.inputs["input"].shape[1] == 2
    assert notices == ["4 samples have more than data.max_tokens = 2 ids; the ids behind these are left out"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[7]", "[12]", "0 <= id < 10 (vocabulary) must hold in train, but got 12 at 1"),
        ("[7]", "[-1]", "0 <= id < 10 (vocabulary) must hold in train, but got -1 at 1"),
        ("[7]", "[]", "at least one for each sample, but got float64 (0,) at 1"),
        ("[7]", "[0.5]", "whole numbers, at least one for each sample, but got float64 (1,) at 1"),
        ("[7]", "[0, 7]", "each sample must begin with a token, but input"),
        ('"vocabulary": 10', '"vocabulary": "ten"', "must be the number of token ids, 2 or more, but got 'ten'"),
        ("[0, 1] * 8", "[0, 1] * 7", "train must have one label for each input, but got 14 labels for 16 samples"),
        ("(rows, [0, 1] * 8)", "rows", "train must be a pair (samples, labels), but got list of length 16"),
        ("np.array([[4, 4, 0]])", "[]", "unlabelled must not be empty, but got no samples of token ids"),
    ],
)
def test_a_mistake_in_token_ids_is_named(load: Load, old: str, new: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        load(IDS.replace(old, new))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"great fun, truly"', "3", "texts of train must be strings, but got int at 2"),
        ("TEXTS[:4], ", "[], ", "test must not be empty, but got no texts"),
        ('["zebra"]', "None", "texts of unlabelled must be a list, but got NoneType"),
        ('["zebra"]', '["\\ud800"]', "texts of unlabelled must be valid Unicode, but got half a character at 0"),
        ('["good", "bad"] * 8', '["good", "bad"] * 7', "one label for each input, but got 14 labels for 16 samples"),
    ],
)
def test_a_mistake_in_texts_is_named(load: Load, old: str, new: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        load(TEXTS.replace(old, new))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_vocabulary_is_for_texts_only(load: Load) -> None:
    images = "import numpy as np\ndef load():\n    return {'train': (np.zeros((9, 4, 4), np.uint8), [0, 1, 0] * 3)}\n"
    for code, message in (
        (images, "are for texts and token ids, but own_texts_"),
        (IDS, "are for texts, but own_texts_"),
    ):
        with pytest.raises(RequestError, match=message):
            load(code, text_settings=TextSettings(vocabulary=200))
    with pytest.raises(RequestError, match="vocabulary and max_tokens are for texts, but digits has none"):
        load_dataset(name="digits", text_settings=TextSettings(longest=9), where="study.toml: data.name")


def test_unlabelled_texts_are_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tokenizers")
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "texts.csv").write_text("text,label\n" + '"a fine film",1\n"a dull bore",0\n' * 6)
    (tmp_path / "more.csv").write_text("id,text\n1,what fun\n2,\n")

    def load_with(path: str) -> Dataset:
        return load_dataset(
            texts=TextFiles(path="texts.csv"),
            text_settings=TextSettings(vocabulary=100),
            unlabelled=TextFiles(path=path),
            folder=tmp_path,
            where="study.toml: data.text",
        )

    data = load_with("more.csv")
    assert data.train.targets["label"][-2:].tolist() == [-1, -1] and data.labelled_samples == len(data.train) - 2
    assert data.train.inputs["input"][-1].count_nonzero() == 1  # an empty text is [UNK]
    for path, message in (("none.csv", "there is none at"), ("folder", "must be in one file, but got the folder")):
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(RequestError, match=message):
            load_with(path)
    with pytest.raises(RequestError, match="but got it for digits; a function returns its own"):
        load_dataset(name="digits", unlabelled=TextFiles(path="more.csv"), folder=tmp_path, where="")


TASKS = [
    TaskChoice(name="liked", labels="liked", metric="accuracy"),
    TaskChoice(name="words", labels="words", metric="r2", kind="regression"),
]
LABELS = '{"liked": ["good", "bad"] * 8, "words": [3.5, 1.5, 3.0, 3.25] * 4}'


def test_texts_of_a_function_have_several_tasks(load: Load) -> None:
    pytest.importorskip("tokenizers")
    code = TEXTS.replace('["good", "bad"] * 8', LABELS).replace('(TEXTS[:4], ["good", "bad"] * 2)', "None")
    code = code.replace('"test": None, ', "")
    data = load(code, tasks=TASKS, text_settings=TextSettings(vocabulary=100))
    assert data.task.signature.output_names == ("logits_liked", "values_words")
    assert (len(data.train), data.labelled_samples) == (15, 14) and len(data.validation) == 2
    # the labels stay with their texts: each text has its own number
    (spec,) = data.task.signature.inputs
    assert spec.pieces is not None
    numbers = {"afinefilm": 3.5, "dull": 1.5, "greatfun,truly": 3.0, "asadbore": 3.25}
    for split in (data.train, data.validation):
        for ids, (number,) in zip(split.inputs["input"].tolist(), split.targets["targets_words"].tolist(), strict=True):
            text = "".join(spec.pieces.pieces[each].removeprefix("##") for each in ids if each)
            assert text not in numbers or numbers[text] == number


def test_token_ids_of_a_function_have_several_tasks(load: Load) -> None:
    data = load(IDS.replace("[0, 1] * 8", LABELS), tasks=TASKS)
    assert data.task.signature.vocabulary == 10 and data.task.signature.output_names[0] == "logits_liked"
    with pytest.raises(RequestError, match="train must have one liked for each of 16 inputs, but got 14"):
        load(IDS.replace("[0, 1] * 8", LABELS.replace("* 8", "* 7")), tasks=TASKS)
    with pytest.raises(RequestError, match=r"train must have a list of texts, or token ids \(N, T\), but got int"):
        load(IDS.replace("(rows, [0, 1] * 8)", f"(5, {LABELS})"), tasks=TASKS)
    # a label of several numbers is no class by which validation samples are drawn
    marks = LABELS.replace('"liked": ["good", "bad"] * 8', '"liked": [[0, 1], [1, 0]] * 8')
    several = [TaskChoice(name="liked", labels="liked", metric="f1_macro", kind="multi_label"), TASKS[1]]
    assert len(load(IDS.replace("[0, 1] * 8", marks), tasks=several).validation) == 4
