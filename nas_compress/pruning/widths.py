"""From a vote to a student's per-layer widths, by arithmetic alone. Weights play no part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nas_compress.pruning.channel_groups import ChannelGroup
from nas_compress.values.architecture import Width


def round_to_step(asked: float, step: int) -> int:
    """The nearest multiple of `step`, half upwards, at least one step.

    >>> [round_to_step(width, 16) for width in (3, 23, 24, 40.0)]
    [16, 16, 32, 48]
    """
    return max(step, step * math.floor(asked / step + 0.5))


def whole_heads(
    widths: Sequence[Width], fractions: Mapping[str, float], *, heads: int, min_heads: int
) -> tuple[tuple[Width, ...], tuple[int, ...]]:
    """Attention layers with whole heads alone, as wide as they were, and the number that each of them keeps.

    fractions: of `heads` that stay, by layer; at least `min_heads` (all, where there are fewer) do.
    """
    cut, counts = [], []
    for width in widths:
        if width.layer in fractions:
            count = max(min(min_heads, heads), math.floor(fractions[width.layer] * heads + 0.5), 1)
            counts.append(count)
            asked = round(width.asked * fractions[width.layer], 3)
            width = Width(layer=width.layer, asked=asked, channels=width.channels // heads * count)
        cut.append(width)
    return tuple(cut), tuple(counts)


def student_fractions(
    layers: Sequence[tuple[str, int]],
    *,
    groups: Sequence[ChannelGroup],
    fractions: Sequence[float],
    same_family: bool,
) -> dict[str, float]:
    """The surviving fraction of each of a family's free `layers` (path, base channels), by path.

    A layer that the teacher has too takes its group's; any other layer takes the one at its relative depth,
    interpolated between the teacher's groups. Without groups nothing was pruned.
    """
    by_layer = {layer: fraction for group, fraction in zip(groups, fractions, strict=True) for layer in group.layers}
    positions, last = [group.position for group in groups], max(1, len(layers) - 1)
    found = {}
    for number, (layer, _) in enumerate(layers):
        if not groups:
            found[layer] = 1.0
        elif same_family and layer in by_layer:
            found[layer] = by_layer[layer]
        else:
            found[layer] = float(np.interp(number / last, positions, fractions))
    return found


def student_widths(
    layers: Sequence[tuple[str, int]],
    fractions: Sequence[float],
    *,
    width_multiplier: float,
    step: int,
    multiples: Mapping[str, int] | None = None,
) -> tuple[Width, ...]:
    """Widths for a family's free `layers` (path, base channels), in the same order, each with its fraction.

    A layer in `multiples` gets a multiple of that number too, such as of an attention's heads.
    """
    widths = []
    for (layer, base), fraction in zip(layers, fractions, strict=True):
        asked = base * fraction * width_multiplier
        channels = round_to_step(asked, math.lcm(step, (multiples or {}).get(layer, 1)))
        widths.append(Width(layer=layer, asked=round(asked, 3), channels=channels))
    return tuple(widths)
