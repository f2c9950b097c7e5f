"""From a vote to a student's per-layer widths, by arithmetic alone. Weights play no part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nas_compress.architecture import Width
from nas_compress.pruning.groups import ChannelGroup


def round_to_step(asked: float, step: int) -> int:
    """The nearest multiple of `step`, half upwards, at least one step.

    >>> [round_to_step(width, 16) for width in (3, 23, 24, 40.0)]
    [16, 16, 32, 48]
    """
    return max(step, step * math.floor(asked / step + 0.5))


def student_widths(
    layers: Sequence[tuple[str, int]],
    *,
    groups: Sequence[ChannelGroup],
    fractions: Sequence[float],
    same_family: bool,
    width_multiplier: float,
    step: int,
    multiples: Mapping[str, int] | None = None,
) -> tuple[Width, ...]:
    """Widths for a family's free `layers` (path, base channels), in the same order.

    A layer that the teacher has too takes its group's surviving fraction; any other layer takes the fraction at its
    relative depth, interpolated between the teacher's groups. Without groups nothing was pruned. A layer in `multiples`
    gets a multiple of that number too, such as of an attention's heads.
    """
    by_layer = {layer: fraction for group, fraction in zip(groups, fractions, strict=True) for layer in group.layers}
    last = max(1, len(layers) - 1)
    widths = []
    for number, (layer, base) in enumerate(layers):
        if not groups:
            fraction = 1.0
        elif same_family and layer in by_layer:
            fraction = by_layer[layer]
        else:
            positions = [group.position for group in groups]
            fraction = float(np.interp(number / last, positions, fractions))
        asked = base * fraction * width_multiplier
        channels = round_to_step(asked, math.lcm(step, (multiples or {}).get(layer, 1)))
        widths.append(Width(layer=layer, asked=round(asked, 3), channels=channels))
    return tuple(widths)
