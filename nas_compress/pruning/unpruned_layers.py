"""Layers of a user's network that keep all their channels: by the user's wish, or because they cannot be cut."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from nas_compress.errors import RequestError, nearest
from nas_compress.pruning.value_check import WholeLayers, whole_layers
from nas_compress.tasks.batch import Batch

SHOWN = 4
"""Groups shown with their reasons in a message."""

NEAREST = 5
"""Names in a message about an unknown name."""

BY_WISH = "pruning.keep"
"""Reason of layers that the user keeps."""


def layers_left_whole(
    network: nn.Module, example: Batch, *, keep: Sequence[str] = (), where: str = ""
) -> tuple[WholeLayers, ...]:
    """Return the groups of layers that keep all their channels, with reasons, in forward order.

    example: inputs of two or more samples.
    keep: patterns of module names as in a shell; a layer is kept if its name or that of a module around it matches.
    where: file and key for a message.
    RequestError if a pattern matches no module, or torch-pruning cannot trace the network.
    """
    return whole_layers(network, example, kept=kept_layers(network, keep, where=where), reason=BY_WISH)


def kept_layers(network: nn.Module, keep: Sequence[str], *, where: str = "") -> frozenset[str]:
    """Return the names of all modules that match a pattern, and of those inside them."""
    names = [name for name, _ in network.named_modules() if name]
    found: set[str] = set()
    for pattern in keep:
        matches = [name for name in names if fnmatchcase(name, pattern)]
        if not matches:
            place = f" ({where})" if where else ""
            words = nearest(pattern, names)
            if words.count(",") >= NEAREST:
                words = "; modules are " + ", ".join(names[:NEAREST]) + ", ..."
            raise RequestError(f"a pattern must match a module of the network, but got {pattern!r}{place}{words}")
        found.update(name for name in names for match in matches if name == match or name.startswith(f"{match}."))
    return frozenset(found)


def in_one_line(whole: Sequence[WholeLayers]) -> str:
    """Name the groups that stay whole, the first ones with their reasons.

    >>> in_one_line([WholeLayers(layers=("a", "b"), reason="its channels are one unit")])
    'a, b (its channels are one unit)'
    """
    shown = "; ".join(map(str, whole[:SHOWN]))
    rest = ", ".join(group.layers[0] for group in whole[SHOWN:])
    return f"{shown}; and {rest}" if rest else shown
