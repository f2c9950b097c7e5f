"""Weight bits of each layer, with the most sensitive layers promoted."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nas_compress.errors import RequestError
from nas_compress.quantization.layer_bits import bits_by_layer, end_layers, table_layers, weight_layers
from nas_compress.quantization.sensitivity import Sensitivity, divergence_by_layer
from nas_compress.tasks.batch import Batch
from nas_compress.trial.context import TrialContext
from nas_compress.values.candidate import Candidate
from nas_compress.values.precision import END_BITS


def planned_bits(candidate: Candidate, network: nn.Module, context: TrialContext) -> dict[str, int]:
    """Weight bits of each layer of the candidate's network, by path.

    The teacher's sensitivities are computed only if layers are promoted.
    """
    narrowest = min(candidate.precision.quantization.stage_widths(candidate.precision.weight_bits))
    promotes = candidate.precision.quantization.promoted_layers > 0
    sensitivities = context.teacher.sensitivities(narrowest) if promotes else ()
    return plan_bits(candidate, network, sensitivities, samples=context.calibration)


def plan_bits(
    candidate: Candidate, network: nn.Module, sensitivities: Sequence[Sensitivity], *, samples: Batch | None = None
) -> dict[str, int]:
    """Weight bits of each layer, by path.

    samples: on the network's device; see `find_weights`.

    sensitivities: the teacher's, by layer. A layer that the teacher lacks takes the value at its relative depth, as in
    pruning. Without sensitivities the first layers are promoted. If the candidate promotes more layers than there are,
    all are promoted.
    """
    weight_bits, wanted = candidate.precision.weight_bits, candidate.precision.quantization
    samples = samples if weight_bits < 32 else None
    layers = weight_layers(network, samples)
    tables = (
        {} if wanted.embedding_bits is None else dict.fromkeys(table_layers(network, samples), wanted.embedding_bits)
    )
    if wanted.embedding_bits is not None and not tables:
        rule = "embedding_bits needs a network with tables that are looked up (embeddings of tokens or positions)"
        raise RequestError(f"{rule}, but got family {candidate.shape.family!r} without one")
    bits = bits_by_layer(
        layers, weight_bits=weight_bits, stage_bits=wanted.stage_bits, end_bits=wanted.end_bits, tables=tables
    )
    ends = end_layers(layers)
    open_ = [layer for layer in layers if layer not in ends and layer not in tables and bits[layer] < END_BITS]
    divergence = divergence_by_layer(layers, sensitivities)
    ranked = sorted(open_, key=lambda layer: -divergence[layer])
    return bits | dict.fromkeys(ranked[: wanted.promoted_layers], END_BITS)
