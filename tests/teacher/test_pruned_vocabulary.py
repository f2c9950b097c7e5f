"""Word pieces that no training text needs are left out: data, teacher, students that inherit, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bert_folders import PIECES, write_bert_folder
from nas_compress.config.study_file import StudyFile, read_study
from nas_compress.devices.onnx_session import file_signature
from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from nas_compress.search.setup import find_teacher, gather, make_context
from nas_compress.search.study_data import study_dataset
from nas_compress.teacher.input_size_rules import require_picture_size
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.values.candidate import Candidate, LossTerm
from nas_compress.values.family_settings import EncoderSettings
from nas_compress.values.text.kept_pieces import pruned_pieces
from nas_compress.values.text.word_pieces import WordPieces
from running import own_cache as own_cache

STUDY = """name = "pruned"
space = "space.py"
trials = 2
objectives = ["accuracy", "size_bytes"]
[data]
text = "texts.csv"
vocabulary = "teacher"
pruned_vocabulary = true
max_tokens = 8
[teacher]
hugging_face = "bert"
fine_tune = 0
epochs = 1
[training]
epochs = 1
batch_size = 8
[search]
sampler = "random"
stop = "none"
start = []
"""

SPACE = '''"""The teacher's layers with fewer word pieces."""
from nas_compress.values.candidate import Candidate, cross_entropy
from nas_compress.values.family_settings import EncoderSettings


def suggest(trial):
    """Propose one student."""
    settings = EncoderSettings(heads=3, mlp_ratio=20 / 12, max_tokens=16)
    return Candidate(
        family="encoder", depths=(2,), settings=settings, init="inherit", round_to=1, losses=cross_entropy()
    )
'''

ROWS = [("a fine film", "yes"), ("dull", "no"), ("great a film", "yes"), ("a bore, no film", "no")] * 6
NEEDED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "fine", "film", "dull", "great", "bore", "no")
FREQUENT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "film", "dull", "bore")
FEWER = ("pruned_vocabulary = true", "pruned_vocabulary = true\nvocabulary_size = [8]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS))
    (tmp_path / "space.py").write_text(SPACE)
    write_bert_folder(tmp_path / "bert")
    return tmp_path


def study(folder: Path, *changes: tuple[str, str]) -> StudyFile:
    text = STUDY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "study.toml").write_text(text)
    return read_study(folder)


def test_the_texts_of_a_pruned_vocabulary_keep_their_pieces() -> None:
    whole = WordPieces(pieces=("[PAD]", "[UNK]", *"abcm", "##m", "##b", "am", "##mb", "abc", "##cm"), longest=9)
    texts = ["amb, am", "b mb", "abccm"]
    few = pruned_pieces(whole, texts)
    assert len(few.pieces) < len(whole.pieces)
    for text in texts:
        assert [few.pieces[each] for each in few.encode(text)] == [whole.pieces[each] for each in whole.encode(text)]
    assert few.pieces == tuple(piece for piece in whole.pieces if piece in few.pieces)


def test_rarer_pieces_are_left_out_first_and_letters_never() -> None:
    pieces = WordPieces(pieces=("[PAD]", "[UNK]", "a", "##a", "aa", "aaa", "aaaa"), longest=9)
    texts = ["aaaa aaaa", "aaa", "aa aa aa"]
    assert pruned_pieces(pieces, texts, size=6).pieces == ("[PAD]", "[UNK]", "a", "##a", "aa", "aaaa")
    few = pruned_pieces(pieces, texts, size=5)
    assert [few.pieces[each] for each in few.encode("aaa aaaa")] == ["aa", "##a", "aa", "##a", "##a"]
    with pytest.raises(RequestError, match="must have 4 word pieces or more, for the letters of its texts, but got 3"):
        pruned_pieces(pieces, texts, size=3)


def test_a_teacher_starts_with_the_rows_of_the_pieces_that_stay(folder: Path) -> None:
    state = write_bert_folder(folder / "bert")
    parts = gather(study(folder))
    (spec,) = parts.dataset.task.signature.inputs
    assert spec.pieces is not None and spec.pieces.framed
    assert tuple(spec.pieces.pieces) == NEEDED
    teacher = find_teacher(parts, lambda *given: None)
    rows = [PIECES.index(piece) for piece in NEEDED]
    table = teacher.network.state_dict()["embedding.table.weight"]
    assert torch.equal(table, state["embeddings.word_embeddings.weight"][rows])


def test_students_inherit_the_rows_of_their_own_vocabulary(folder: Path) -> None:
    parts = gather(study(folder, FEWER))
    teacher = find_teacher(parts, lambda *given: None)
    context = make_context(parts, teacher)
    settings = EncoderSettings(heads=3, mlp_ratio=20 / 12, max_tokens=16)
    candidate = Candidate(
        family="encoder", depths=(2,), settings=settings, init="inherit", round_to=1, vocabulary_size=8
    )
    student = new_student(candidate, student_architecture(candidate, context, seed=0), teacher, seed=0)
    own, theirs = student.state_dict(), teacher.network.state_dict()
    rows = [NEEDED.index(piece) for piece in FREQUENT]
    assert torch.equal(own["embedding.table.weight"], theirs["embedding.table.weight"][rows])
    assert torch.equal(own["layers.1.mlp.inner.weight"], theirs["layers.1.mlp.inner.weight"])
    assert len(theirs["embedding.table.weight"]) == len(NEEDED)


def test_the_file_of_a_student_that_inherits_holds_its_vocabulary(folder: Path) -> None:
    study(folder, FEWER)
    run_study(folder / "study.toml", out=folder / "run")
    for record in read_records(RunFolder(root=folder / "run")):
        assert record.outcome.state == "trained", record.outcome.reason
        (spec,) = file_signature(folder / "run" / record.model).inputs
        assert spec.pieces is not None and tuple(spec.pieces.pieces) == FREQUENT


def test_layers_of_the_teacher_are_not_compared_on_other_pieces(folder: Path) -> None:
    parts = gather(study(folder, FEWER))
    losses = (LossTerm(name="cross_entropy"), LossTerm(name="hidden_state"))
    candidate = Candidate(family="encoder", depths=(2,), vocabulary_size=8, losses=losses)
    with pytest.raises(RequestError, match=r"needs the teacher's vocabulary, but got vocabulary_size=8"):
        require_picture_size(candidate, None, parts.dataset, own_network=None, build=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [('"teacher"', "4000"), ('vocabulary = "teacher"\n', "hash_buckets = 500\n")])
def test_learned_and_hashed_words_are_not_pruned(folder: Path, change: tuple[str, str]) -> None:
    with pytest.raises(RequestError, match=r"pruned_vocabulary needs given word pieces: data.vocabulary = .teacher."):
        study_dataset(study(folder, change, ('hugging_face = "bert"\nfine_tune = 0', 'family = "text_bag"')))


OWN = ('vocabulary = "teacher"', 'vocabulary = "bert/vocab.txt"')


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ('factory = "own:build"\nweights = "own.pt"', "a BERT in teacher.hugging_face, but got teacher.factory = own:"),
        ('weights = "own.onnx"', "needs a teacher that the study trains, .* but got teacher.weights = own.onnx"),
        ('hugging_face = "bert"', "teacher.hugging_face must be an encoder of model_type bert"),
    ],
)
def test_a_teacher_that_keeps_the_ids_of_all_pieces_is_refused(folder: Path, teacher: str, message: str) -> None:
    if "hugging_face" in teacher:
        write_bert_folder(folder / "bert", model_type="distilbert")
    file = study(folder, OWN, ('hugging_face = "bert"\nfine_tune = 0\nepochs = 1', teacher))
    with pytest.raises(RequestError, match=message):
        study_dataset(file)
