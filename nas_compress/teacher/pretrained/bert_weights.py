"""Weights of BERT encoders in files of Hugging Face, read into this package's own encoder without `transformers`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.config.pretrained import VOCABULARY, bert_config, pretrained_folder
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.text.vocabulary import given_pieces
from nas_compress.errors import RequestError
from nas_compress.files import digest_of_file
from nas_compress.models.networks.encoder import TokenEncoder
from nas_compress.teacher.libraries import hugging_face_weights
from nas_compress.teacher.weights_file import read_checkpoint
from nas_compress.values.text.kept_pieces import rows_of
from nas_compress.values.text.word_pieces import WordPieces

WORDS, POSITIONS, SEGMENTS = (f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))

LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")

PARTS: Mapping[str, str] = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "mlp.inner",
    "output.dense": "mlp.outer",
    "output.LayerNorm": "mlp_norm",
}
"""Modules of a layer in a file of BERT, and in an `EncoderLayer`."""

OLD_NAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
"""Names in files of the first years, and today's."""


def pretrained_digest(section: TeacherSection, *, folder: Path, label: str) -> dict[str, str]:
    """Return the SHA-256 of each file of weights; the arguments are those of `load_pretrained_`."""
    where = f"{label}: teacher.hugging_face"
    place = pretrained_folder(folder, str(section.hugging_face), where)
    return {path.name: digest_of_file(path) for path in hugging_face_weights(place, label)}


def load_pretrained_(
    network: nn.Module, section: TeacherSection, *, pieces: WordPieces | None, folder: Path, label: str
) -> None:
    """Load the embedding and the layers of `section.hugging_face` in place; the classifier stays as it is.

    Normalisations get the epsilon of the folder. A network of fewer layers gets the lower ones.
    pieces: vocabulary of the data, None without one. folder: place of the study, where the folder is searched first.
    label: of the study file, for errors.
    RequestError if the weights are missing or of other shapes than the network's.
    """
    where = f"{label}: teacher.hugging_face"
    place = pretrained_folder(folder, str(section.hugging_face), where)
    set_epsilon_(network, bert_config(place, where)["layer_norm_eps"])
    state = bert_state([*hugging_face_weights(place, label)], label)
    load_encoder_(network, with_rows_of(state, pieces, place, where), where)


def set_epsilon_(network: nn.Module, epsilon: float) -> None:
    """Set the epsilon of all normalisations but the classifier's, which is not BERT's."""
    for name, module in network.named_modules():
        if isinstance(module, nn.LayerNorm) and not name.startswith("head."):
            module.eps = epsilon


def bert_state(paths: list[Path], label: str) -> dict[str, Tensor]:
    """Return the tensors of files by today's names, without a prefix such as `bert.`."""
    given: dict[Any, Any] = {}
    for path in paths:
        given.update(read_checkpoint(path, label))
    tensors = {_today(str(name)): value for name, value in given.items() if isinstance(value, Tensor)}
    prefix = next((name.removesuffix(WORDS) for name in tensors if name.endswith(WORDS)), "")
    return {name.removeprefix(prefix): value.float() for name, value in tensors.items()}


def with_rows_of(
    state: Mapping[str, Tensor], pieces: WordPieces | None, place: Path, where: str
) -> Mapping[str, Tensor]:
    """Return the weights with an embedding of these word pieces, in their order; all of them without `pieces`.

    place: folder with the vocabulary of the weights; without one there the weights stay as they are.
    RequestError if the vocabulary lacks a piece.
    """
    if pieces is None or WORDS not in state or not (place / VOCABULARY).is_file():
        return state
    theirs = given_pieces(place / VOCABULARY, longest=None, where=where)
    rows = rows_of(pieces, theirs)
    if rows is None or len(theirs.pieces) > len(state[WORDS]):
        raise RequestError(
            f"{where} has {len(theirs.pieces):,} word pieces, but the data have {len(pieces.pieces):,}, some of which "
            'it does not know; use data.vocabulary = "teacher"'
        )
    return {**state, WORDS: state[WORDS][list(rows)]}


def load_encoder_(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load `bert_state` into a `TokenEncoder`; RequestError for missing tensors and other shapes."""
    if not isinstance(network, TokenEncoder):
        raise RequestError(f"{where} must be read by an encoder, but got {type(network).__name__}")
    needed = {WORDS, POSITIONS, SEGMENTS} - state.keys()
    if needed:
        raise RequestError(f"{where} must hold the weights of a BERT encoder, but it has no {min(needed)}")
    own = network.state_dict()
    table = own["embedding.table.weight"]
    if state[WORDS].shape != table.shape:
        pieces = f"{len(state[WORDS]):,} word pieces of width {state[WORDS].shape[1]}"
        raise RequestError(
            f"{where} has {pieces}, but the data have {len(table):,} and teacher.widths {table.shape[1]}; "
            'use data.vocabulary = "teacher" and no teacher.widths'
        )
    found = {
        "embedding.table.weight": state[WORDS],
        # every token is of the first segment
        "embedding.position.weight": (state[POSITIONS] + state[SEGMENTS][0])[: network.max_tokens],
    }
    for name, value in state.items():
        layer = LAYER.fullmatch(name)
        if name.startswith("embeddings.LayerNorm."):
            found[name.replace("embeddings.LayerNorm", "embedding.norm")] = value
        elif layer is not None and layer[2] in PARTS and int(layer[1]) < len(network.layers):
            found[f"layers.{layer[1]}.{PARTS[layer[2]]}.{layer[3]}"] = value
    for name, value in own.items():
        if not name.startswith("head.") and (name not in found or found[name].shape != value.shape):
            got = f"{name} {tuple(found[name].shape)}" if name in found else f"no {name}"
            raise RequestError(f"{where} must fit the teacher's shape, {name} {tuple(value.shape)}, but it has {got}")
    with torch.no_grad():
        network.load_state_dict({**own, **found})


def _today(name: str) -> str:
    for old, new in OLD_NAMES:
        name = name.replace(old, new)
    return name
