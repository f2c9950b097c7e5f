"""Whole classifiers of Hugging Face on texts: a BERT with its pooler and its classifier."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from nas_compress.config.pretrained import CONFIG, bert_config
from nas_compress.errors import RequestError
from nas_compress.files import read_json
from nas_compress.models.families import build_student, family_named
from nas_compress.models.networks.encoder import TokenEncoder
from nas_compress.models.token_padding import takes_tokens
from nas_compress.tasks.task import Task
from nas_compress.teacher.libraries import hugging_face_weights
from nas_compress.teacher.pretrained.bert_weights import (
    bert_state,
    load_encoder_,
    set_epsilon_,
    with_rows_of,
)
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.family_settings import EncoderSettings
from nas_compress.values.text.word_pieces import WordPieces

HEAD = {"pooler.dense": "dense", "classifier": "linear"}
"""Modules of a file behind the encoder, and in a `PooledClassifier`."""


class PooledClassifier(nn.Module):
    """A linear layer, tanh, and the linear classifier, on the state of the first token."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.dense, self.linear = nn.Linear(width, width), nn.Linear(width, outputs)

    def forward(self, values: Tensor) -> Tensor:
        """Map (B, width) to (B, outputs)."""
        return cast(Tensor, self.linear(torch.tanh(self.dense(values))))


def is_bert_of_tokens(folder: Path, task: Task) -> bool:
    """Return True for a folder of BERT and a task of token ids."""
    try:
        values = read_json(folder / CONFIG) if takes_tokens(task.signature) else {}
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.get("model_type") == "bert"


def bert_classifier(folder: Path, task: Task, where: str) -> TokenEncoder:
    """Return the classifier with fresh weights; `load_classifier_` loads those of the folder."""
    config, family = bert_config(folder, where), family_named("encoder")
    settings = EncoderSettings(
        heads=config["num_attention_heads"],
        mlp_ratio=config["intermediate_size"] / config["hidden_size"],
        max_tokens=config["max_position_embeddings"],
        pooling="first",
    )
    depths, widths = (config["num_hidden_layers"],), (config["hidden_size"],)
    layers = family.layers(depths, widths, settings)
    network = build_student(
        Architecture(
            family="encoder",
            signature=task.signature,
            depths=depths,
            widths=tuple(Width(layer=layer, asked=width, channels=width) for layer, width in layers),
            settings=settings,
        )
    )
    set_epsilon_(network, config["layer_norm_eps"])
    encoder = cast(TokenEncoder, network)
    encoder.head = PooledClassifier(widths[0], task.signature.vector_size)  # type: ignore[assignment]
    return encoder


def load_classifier_(network: TokenEncoder, folder: Path, label: str, *, pieces: WordPieces | None) -> None:
    """Load the weights of the folder in place; RequestError if it has no classifier, or one of other classes.

    pieces: vocabulary of the data, None without one.
    """
    where = f"{label}: teacher.hugging_face"
    state = bert_state(hugging_face_weights(folder, label), label)
    load_encoder_(network, with_rows_of(state, pieces, folder, where), where)
    own = network.head.state_dict()
    names = {f"{ours}.{kind}": f"{theirs}.{kind}" for theirs, ours in HEAD.items() for kind in ("weight", "bias")}
    if not set(names.values()) <= state.keys():
        raise RequestError(f'{where} must have a classifier, but {folder} has none; fine_tune = "all" trains one')
    found = {name: state[given] for name, given in names.items()}
    if any(found[name].shape != value.shape for name, value in own.items()):
        rule = f"a classifier of {len(own['linear.bias'])} classes"
        raise RequestError(f"{where} must have {rule}, as the data, but got {len(found['linear.bias'])} in {folder}")
    network.head.load_state_dict(found)
