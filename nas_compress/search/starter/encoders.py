"""Studies whose teacher is a pretrained encoder of texts, in a folder of Hugging Face."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from nas_compress.config.pretrained import CONFIG, PACKAGES, VOCABULARY, bert_config, pretrained_folder
from nas_compress.data.text.parts import TextSettings
from nas_compress.data.text.vocabulary import DEFAULT_LONGEST, given_pieces
from nas_compress.files import read_json

WHERE = "--model"
"""The option that names the folder, for errors."""

OF_TEACHER_PIECES = """\
vocabulary = "teacher"          # the word pieces of the teacher's vocab.txt"""

OF_STUDENT_PIECES = """
vocabulary_size = [4000]        # word pieces of students, learned from the training texts; several are searched"""

OF_PRUNED_PIECES = """
pruned_vocabulary = true        # without the pieces that no training text needs"""

ENCODER_TEACHER = """\
hugging_face = {model}          # config.json, vocab.txt and weights of an uncased BERT"""

FINE_TUNED = """
fine_tune = "all"               # it has no classifier yet; a number trains the upper layers only, which is faster"""

CLASSIFIER = "ForSequenceClassification"
"""End of the name of a network with a classifier, in CONFIG."""


def encoder_folder(model: str | None) -> Path | None:
    """Return the folder of BERT that `--model` names by its path or its package; None for another model."""
    if model is None:
        return None
    if model not in PACKAGES:
        try:
            kind = read_json(Path(model) / CONFIG).get("model_type")
        except (OSError, ValueError, AttributeError):
            return None
        if kind != "bert":
            return None
    return pretrained_folder(Path.cwd(), model, WHERE)


def encoder_settings(folder: Path) -> TextSettings:
    """Return how the texts become ids of the encoder. RequestError if its files are damaged or of another network."""
    places = bert_config(folder, WHERE)["max_position_embeddings"]
    longest = min(DEFAULT_LONGEST, places)
    return TextSettings(longest=longest, pieces=given_pieces(folder / VOCABULARY, longest=longest, where=WHERE))


def encoder_ids() -> str:
    """Return the keys of the ids. Students learn word pieces of their own if `tokenizers` is installed."""
    return OF_TEACHER_PIECES + (OF_STUDENT_PIECES if find_spec("tokenizers") is not None else OF_PRUNED_PIECES)


def encoder_teacher(folder: Path, name: str) -> str:
    """Return the section `[teacher]`. name: the folder or package as a string of TOML."""
    architectures = read_json(folder / CONFIG).get("architectures")
    names = architectures if isinstance(architectures, list) else []  # the file may be damaged
    trained = any(str(each).endswith(CLASSIFIER) for each in names)
    return ENCODER_TEACHER.format(model=name) + FINE_TUNED * (not trained)
