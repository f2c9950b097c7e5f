"""Widths of a student's layers from the fractions kept in the teacher's groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nas_compress.pruning.channel_groups import ChannelGroup
from nas_compress.values.architecture import Width


def round_to_step(asked: float, step: int) -> int:
    """Round to the nearest multiple of `step`, half upwards, at least one step.

    >>> [round_to_step(width, 16) for width in (3, 23, 24, 40.0)]
    [16, 16, 32, 48]
    """
    return max(step, step * math.floor(asked / step + 0.5))


def whole_heads(
    widths: Sequence[Width], fractions: Mapping[str, float], *, heads: int, min_heads: int
) -> tuple[tuple[Width, ...], tuple[int, ...]]:
    """Reduce attention layers to whole heads of the same width; return all widths and the numbers of heads.

    fractions: fraction of the heads to keep, by layer.
    heads: number before.
    min_heads: number to keep at least, or all if there are fewer.
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
    """Return the fraction to keep of each of a family's free layers, by path.

    A layer in a group of the teacher takes the group's fraction. Any other layer takes the fraction at its relative
    depth, interpolated between the teacher's groups.

    layers: paths and base channels.
    groups: the teacher's; without groups all fractions are 1.
    same_family: layers of equal paths correspond.
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
    """Return the widths of a family's free layers, in the same order.

    layers: paths and base channels.
    fractions: one per layer.
    step: divisor of every width.
    multiples: further divisors by path, such as the number of heads of an attention.
    """
    widths = []
    for (layer, base), fraction in zip(layers, fractions, strict=True):
        asked = base * fraction * width_multiplier
        channels = round_to_step(asked, math.lcm(step, (multiples or {}).get(layer, 1)))
        widths.append(Width(layer=layer, asked=round(asked, 3), channels=channels))
    return tuple(widths)
