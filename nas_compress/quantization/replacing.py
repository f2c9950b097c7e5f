"""Exchange of modules inside a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

Kind = TypeVar("Kind", bound=nn.Module)


def replace_modules_(network: nn.Module, kind: type[Kind], make: Callable[[Kind], nn.Module]) -> None:
    """Put `make(module)` in place of each module inside `network` that is exactly of that kind.

    Subclasses stay: their owners may read more of them than their answer. A module that stands in several
    places is replaced by one new module.
    """
    made: dict[nn.Module, nn.Module] = {}
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if type(module) is kind and path:
            if module not in made:
                made[module] = make(module)
            network.set_submodule(path, made[module])
