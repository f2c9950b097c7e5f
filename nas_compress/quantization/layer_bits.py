"""Weight bits of each layer."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from torch import nn

from nas_compress.errors import RequestError, nearest
from nas_compress.quantization.find_weights import find_weights
from nas_compress.tasks.batch import Batch
from nas_compress.values.precision import END_BITS, WEIGHT_BITS

TABLES = ("embedding.table", "embedding.position", "stem.embedding")
"""Weights of families of tokens that are looked up."""

_STAGE = re.compile(r"stages\.(\d+)\.")


def table_layers(network: nn.Module, samples: Batch | None = None) -> tuple[str, ...]:
    """Names of the weights that are looked up, in networks of the user too. samples: see `find_weights`."""
    found = find_weights(network, samples)
    return tuple(weight.layer for weight in found if isinstance(weight.module, nn.Embedding | nn.EmbeddingBag))


def weight_layers(network: nn.Module, samples: Batch | None = None) -> tuple[str, ...]:
    """Names of all weights, each once; see `find_weights` for their order and for `samples`."""
    return tuple(weight.layer for weight in find_weights(network, samples))


def check_layer_bits(
    network: nn.Module,
    layer_bits: Mapping[str, int],
    *,
    activation_bits: int,
    weight_format: str,
    samples: Batch | None = None,
) -> None:
    """Raise RequestError for a path without weights, and for bits outside its choices."""
    if all(bits == 32 for bits in layer_bits.values()):
        samples = None  # nothing to round, so no pass is needed
    layers = [weight.layer for weight in find_weights(network, samples, every_path=True)]
    most = 32 if activation_bits == 32 else END_BITS
    least = END_BITS if weight_format == "float8" else 1
    known = [bits for bits in WEIGHT_BITS if least <= bits <= most]
    for path, bits in layer_bits.items():
        if path not in layers:
            raise RequestError(
                f"layer_bits must name convolutions and linear layers of the model, but got {path!r}"
                f"{nearest(str(path), layers)}"
            )
        if type(bits) is not int or bits not in known:
            raise RequestError(
                f"layer_bits must be among {', '.join(map(str, known))} with {activation_bits=} and {weight_format=}, "
                f"but got layer_bits[{path!r}]={bits!r}"
            )


def bits_by_layer(
    layers: tuple[str, ...],
    *,
    weight_bits: int,
    stage_bits: tuple[int, ...] = (),
    end_bits: int = END_BITS,
    promoted: Collection[str] = (),
    tables: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, int]:
    """Return the bits of each layer: those of its stage if `stage_bits` are given, else `weight_bits`.

    end_bits: for the first layer and the classifiers; `weight_bits` if that is more than END_BITS.
    promoted: layers with at least END_BITS.
    tables: bits of tables that have their own.
    RequestError if there are fewer `stage_bits` than stages.

    >>> bits_by_layer(("stem", "body", "head"), weight_bits=2)
    {'stem': 8, 'body': 2, 'head': 8}
    """
    bits = {layer: _stage_bits(layer, stage_bits) or weight_bits for layer in layers}
    for end in end_layers(layers):
        bits[end] = end_bits if weight_bits <= END_BITS else weight_bits
    bits |= tables
    for layer in promoted:
        bits[layer] = max(bits[layer], END_BITS)
    return bits


def end_layers(layers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first layer, all layers in modules named `...head`, and the last layer.

    Tables of tokens and positions are no first layer: they have most of the bytes of a network, and multiply nothing.

    >>> end_layers(("embedding.table", "layers.0", "layers.1", "head.linear"))
    ('layers.0', 'head.linear')
    """
    products = [layer for layer in layers if layer not in TABLES] or list(layers)
    heads = [layer for layer in layers if layer.split(".")[0].endswith("head")]
    return tuple(dict.fromkeys((*products[:1], *heads, *layers[-1:])))


def _stage_bits(layer: str, stage_bits: tuple[int, ...]) -> int | None:
    found = _STAGE.match(layer)
    if not stage_bits or found is None:
        return None
    stage = int(found[1])
    if stage >= len(stage_bits):
        raise RequestError(
            f"stage_bits must have one entry per stage, but got {stage_bits} for stage {stage} ({layer})"
        )
    return stage_bits[stage]
