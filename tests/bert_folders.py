"""Small folders of BERT encoders as Hugging Face writes them, and their hidden states in plain arithmetic."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "fine", "film", "dull", "great", "fun", "bore", "##s", "no", "plot")
WIDTH, LAYERS, HEADS, INNER, PLACES, EPSILON = 12, 3, 3, 20, 16, 1e-3
"""Shape; the epsilon is large, so that another one would show."""


def write_bert_folder(
    folder: Path, *, prefix: str = "bert.", extra: Mapping[str, Tensor] | None = None, **changes: object
) -> dict[str, Tensor]:
    """Write config.json, vocab.txt and weights; return the weights without prefix.

    extra: further weights. changes: of the configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": PLACES,
        "type_vocab_size": 2,
        "vocab_size": len(PIECES),
        "layer_norm_eps": EPSILON,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES))
    state = bert_weights()
    save_file({prefix + name: value for name, value in state.items()} | dict(extra or {}), folder / "model.safetensors")
    return state


def bert_weights() -> dict[str, Tensor]:
    """Random weights by the names of Hugging Face."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(PIECES), WIDTH),
        "embeddings.position_embeddings.weight": (PLACES, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
        "pooler.dense.weight": (WIDTH, WIDTH),
        "pooler.dense.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        place = f"encoder.layer.{layer}"
        sizes = {"intermediate.dense": (INNER, WIDTH), "output.dense": (WIDTH, INNER)}
        sizes |= {f"attention.self.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value")}
        sizes |= {"attention.output.dense": (WIDTH, WIDTH)}
        for name, size in sizes.items():
            shapes |= {f"{place}.{name}.weight": size, f"{place}.{name}.bias": size[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{place}.{name}.weight": (WIDTH,), f"{place}.{name}.bias": (WIDTH,)}
    made = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=made) * 0.3 for name, shape in shapes.items()}


def bert_states(state: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """Return the last hidden states of one text without padding, (T, width), by the equations of the paper."""
    words, places, kinds = (
        state[f"embeddings.{each}_embeddings.weight"] for each in ("word", "position", "token_type")
    )
    tokens = _normalised(words[ids.long()] + places[: len(ids)] + kinds[0], state, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        place, size = f"encoder.layer.{layer}", WIDTH // HEADS
        query, key, value = (
            _linear(tokens, state, f"{place}.attention.self.{name}") for name in ("query", "key", "value")
        )
        heads = []
        for head in range(HEADS):
            of_head = slice(head * size, (head + 1) * size)
            scores = query[:, of_head] @ key[:, of_head].T / math.sqrt(size)
            heads.append(scores.softmax(dim=1) @ value[:, of_head])
        attended = _linear(torch.cat(heads, dim=1), state, f"{place}.attention.output.dense")
        tokens = _normalised(tokens + attended, state, f"{place}.attention.output.LayerNorm")
        inner = F.gelu(_linear(tokens, state, f"{place}.intermediate.dense"))
        tokens = _normalised(
            tokens + _linear(inner, state, f"{place}.output.dense"), state, f"{place}.output.LayerNorm"
        )
    return tokens


def _linear(values: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _normalised(values: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    mean, variance = values.mean(dim=1, keepdim=True), values.var(dim=1, keepdim=True, unbiased=False)
    return (values - mean) / (variance + EPSILON).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]
