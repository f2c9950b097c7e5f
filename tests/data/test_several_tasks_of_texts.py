"""Several tasks of texts: columns of one file, and files of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.several_tasks.parts import TaskChoice
from nas_compress.data.text.tables import TextFiles
from nas_compress.errors import RequestError
from nas_compress.tasks.class_weights import draws_of
from nas_compress.tasks.several import SeveralTasks

pytest.importorskip("tokenizers")

WHERE = "study.toml: data.text"


@pytest.fixture
def films(tmp_path: Path) -> TextFiles:
    """60 texts with a class and a number."""
    rows = [f"{['bad', 'good'][n % 2]} film number {n},{['no', 'yes'][n % 2]},{n / 7}" for n in range(60)]
    (tmp_path / "films.csv").write_text("text,liked,score\n" + "\n".join(rows) + "\n")
    return TextFiles(path=str(tmp_path / "films.csv"))


@pytest.fixture
def news(tmp_path: Path) -> TextFiles:
    """20 texts with another class, and a validation split of 6."""
    (tmp_path / "news").mkdir()
    for split, count in (("train", 20), ("validation", 6)):
        rows = [f"{['match', 'market', 'senate'][n % 3]} of day {n},{n % 3}" for n in range(count)]
        (tmp_path / "news" / f"{split}.csv").write_text("headline,topic\n" + "\n".join(rows) + "\n")
    return TextFiles(path=str(tmp_path / "news"), text=("headline",))


LIKED = TaskChoice(name="liked", labels="liked", metric="accuracy")


def test_columns_of_one_file_label_the_same_texts(films: TextFiles) -> None:
    choices = [LIKED, TaskChoice(name="score", labels="score", metric="r2", kind="regression")]
    data = load_dataset(texts=films, tasks=choices, where=WHERE)
    assert (len(data.train), len(data.validation), data.labelled_samples) == (51, 9, 51)
    assert data.task.signature.output_names == ("logits_liked", "values_score")
    assert not data.task.lacks_labels and draws_of(data.task, data.train.targets, "shuffled") is None


def test_texts_of_several_files_have_labels_of_their_own_tasks_and_one_vocabulary(
    films: TextFiles, news: TextFiles
) -> None:
    topic = TaskChoice(name="topic", labels="topic", metric="accuracy", texts=news)
    data = load_dataset(texts=films, tasks=[LIKED, topic], where=WHERE)
    task = data.task
    assert isinstance(task, SeveralTasks)
    assert (len(data.train), len(data.validation)) == (51 + 20, 9 + 6)
    known = task.labelled_by_task(data.train.targets)
    assert known["liked"].tolist() == [True] * 51 + [False] * 20
    assert known["topic"].tolist() == [False] * 51 + [True] * 20
    pieces = task.signature.inputs[0].pieces
    assert pieces is not None and {"film", "market"} <= {piece.lstrip("#") for piece in pieces.pieces}
    draws = draws_of(task, data.train.targets, "shuffled")
    assert draws is not None and float(draws[0]) < float(draws[-1])


def test_labels_are_kept_for_each_class_of_each_task(films: TextFiles) -> None:
    choices = [LIKED, TaskChoice(name="score", labels="score", metric="r2", kind="regression")]
    data = load_dataset(texts=films, tasks=choices, labels=4, where=WHERE)
    kept = data.train.targets["label_liked"]
    assert sorted(kept[kept >= 0].tolist()) == [0, 0, 1, 1] and data.labelled_samples == 4


def test_texts_without_labels_belong_to_no_task(films: TextFiles, tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("text\na fine film\na dull one\n")
    more = TextFiles(path=str(tmp_path / "more.csv"))
    data = load_dataset(texts=films, tasks=[LIKED], unlabelled=more, where=WHERE)
    assert (len(data.train), data.labelled_samples) == (51 + 2, 51)


def test_a_drawn_test_split_needs_a_file_for_each_task(films: TextFiles) -> None:
    shared = TextFiles(path=films.path, test_share=0.2)
    score = TaskChoice(name="score", labels="score", metric="r2", kind="regression")
    with pytest.raises(RequestError, match="test_share needs one task for each file, but got liked, score"):
        load_dataset(texts=shared, tasks=[LIKED, score], where=WHERE)


def test_labels_of_each_column_stay_with_their_text_in_a_drawn_validation_split(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    rows = [(chance.choice(["bad", "good"]), chance.choice(["short", "mean", "long"]), n / 7) for n in range(60)]
    lines = [f"{liked} {length} film {n},{liked},{length},{score}" for n, (liked, length, score) in enumerate(rows)]
    (tmp_path / "films.csv").write_text("text,liked,length,score\n" + "\n".join(lines) + "\n")
    choices = [
        TaskChoice(name="score", labels="score", metric="r2", kind="regression"),
        LIKED,
        TaskChoice(name="length", labels="length", metric="accuracy"),
    ]
    data = load_dataset(texts=TextFiles(path=str(tmp_path / "films.csv")), tasks=choices, where=WHERE)
    assert isinstance(data.task, SeveralTasks)
    pieces = data.task.signature.inputs[0].pieces
    assert pieces is not None
    numbers: list[int] = []
    for split in (data.train, data.validation):
        texts = ["".join(pieces.pieces[number] for number in ids if number) for ids in split.inputs["input"].tolist()]
        texts = [text.replace("##", "") for text in texts]
        numbers += [int(text.rpartition("film")[2]) for text in texts]
        for name in ("liked", "length"):
            words = [data.task.task(name).class_names[label] for label in split.targets[f"label_{name}"].tolist()]
            assert all(word in text for word, text in zip(words, texts, strict=True))
        scores = split.targets["targets_score"][:, 0].tolist()
        assert scores == pytest.approx([number / 7 for number in numbers[-len(texts) :]])
    assert sorted(numbers) == list(range(60))


def test_a_missing_file_of_a_task_is_named_by_the_key_of_the_task(films: TextFiles, tmp_path: Path) -> None:
    lost = TaskChoice(name="topic", labels="topic", metric="accuracy", texts=TextFiles(path=str(tmp_path / "no.csv")))
    with pytest.raises(RequestError, match=r"no\.csv.*study\.toml: tasks\.topic\.text") as caught:
        load_dataset(texts=films, tasks=[LIKED, lost], where=WHERE)
    assert "data.text" not in str(caught.value)
    with pytest.raises(RequestError, match=r"but got 'genre' .*\(study\.toml: data\.text of tasks\.genre\)"):
        load_dataset(
            texts=films, tasks=[LIKED, TaskChoice(name="genre", labels="genre", metric="accuracy")], where=WHERE
        )
