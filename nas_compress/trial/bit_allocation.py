"""The bits of every layer of a candidate's network, with the most sensitive layers promoted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from nas_compress.quantization.layer_bits import bits_by_layer, end_layers, weight_layers
from nas_compress.quantization.sensitivity import Sensitivity
from nas_compress.values.candidate import Candidate
from nas_compress.values.precision import END_BITS


def plan_bits(candidate: Candidate, network: nn.Module, sensitivities: Sequence[Sensitivity]) -> dict[str, int]:
    """Bits of each layer's weights by path.

    `sensitivities` are the teacher's; without them all layers count as equal and the first are promoted. A layer that
    the teacher has too takes that layer's, any other one the value at its relative depth, as pruning does. Where fewer
    layers can be promoted than the candidate asks for, all are.
    """
    layers, wanted = weight_layers(network), candidate.quantization
    bits = bits_by_layer(
        layers, weight_bits=candidate.weight_bits, stage_bits=wanted.stage_bits, end_bits=wanted.end_bits
    )
    ends = end_layers(layers)
    open_ = [layer for layer in layers if layer not in ends and bits[layer] < END_BITS]
    divergence = _transferred(layers, sensitivities)
    ranked = sorted(open_, key=lambda layer: -divergence[layer])
    return bits | dict.fromkeys(ranked[: wanted.promoted_layers], END_BITS)


def _transferred(layers: tuple[str, ...], sensitivities: Sequence[Sensitivity]) -> dict[str, float]:
    if not sensitivities:
        return dict.fromkeys(layers, 0.0)
    known = {each.layer: each.divergence for each in sensitivities}
    positions, values = [each.position for each in sensitivities], [each.divergence for each in sensitivities]
    last = max(1, len(layers) - 1)
    return {
        layer: known.get(layer, float(np.interp(number / last, positions, values)))
        for number, layer in enumerate(layers)
    }
