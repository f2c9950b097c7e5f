"""What goes as a whole: single channels, attention heads, and one channel of each group of a grouped layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

HEAD_COUNTS = ("num_heads", "n_heads", "heads", "num_attention_heads", "nhead")
"""Names under which attention modules keep their number of heads."""

HEAD_WIDTHS = ("attn_dim", "inner_dim", "all_head_size", "inner_size")
"""Names under which they keep the channels of all heads together."""

ATTENTION_OPERATIONS = ("ScaledDotProduct", "Softmax", "BmmBackward")


def attention_of(group: Any, layers: Sequence[str], network: nn.Module) -> str | None:
    """The path of the attention module inside which all of a group's layers make queries, keys and values, or None."""
    parents = {layer.rpartition(".")[0] for layer in layers}
    if len(parents) != 1 or not any(_attends(item.dep.target.name) for item in group):
        return None
    (parent,) = parents
    return parent if head_count(network.get_submodule(parent)) else None


def head_count(attention: nn.Module) -> tuple[str, int] | None:
    """The name and value of a module's number of heads; None where it has none."""
    for name in HEAD_COUNTS:
        value = getattr(attention, name, None)
        if isinstance(value, int) and value > 0:
            return name, value
    return None


def keep_heads_(attention: nn.Module, kept: int, *, before: int, after: int) -> None:
    """Write the number of heads that are left, and the width of all together (`before` to `after`), into a module."""
    known = head_count(attention)
    if known is not None:
        setattr(attention, known[0], kept)
    for name in HEAD_WIDTHS:
        if getattr(attention, name, None) == before:
            setattr(attention, name, after)


def blocks(size: int, count: int) -> tuple[tuple[int, ...], ...]:
    """`count` runs of neighbours: heads.

    >>> blocks(6, 2)
    ((0, 1, 2), (3, 4, 5))
    """
    width = size // count
    return tuple(tuple(range(start, start + width)) for start in range(0, size, width))


def strided(size: int, count: int) -> tuple[tuple[int, ...], ...]:
    """One channel of each of `count` groups at a time, so that all groups stay equal.

    >>> strided(6, 2)
    ((0, 3), (1, 4), (2, 5))
    """
    width = size // count
    return tuple(tuple(range(first, size, width)) for first in range(width))


def equal_parts(modules: Iterable[nn.Module]) -> int:
    """Into how many equal parts the channels of these modules are divided: 1 where any channel may go alone."""
    parts = [1]
    for module in modules:
        if isinstance(module, nn.Conv2d) and 1 < module.groups < module.in_channels:
            parts.append(module.groups)
        elif isinstance(module, nn.GroupNorm):
            parts.append(module.num_groups)
        elif isinstance(module, nn.MultiheadAttention):
            parts.append(module.num_heads)
    return math.lcm(*parts)


def _attends(name: str) -> bool:
    return any(operation in name for operation in ATTENTION_OPERATIONS)
