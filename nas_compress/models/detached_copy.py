"""Copies of networks with tensors computed from their parameters."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def detached_copy(model: Network) -> Network:
    """Return a copy of a model, also of one that keeps computed tensors, such as those of a weight norm or an LSTM.

    torch refuses to copy these with their gradients.
    """
    known: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, Tensor) and not each.is_leaf:
                    known[id(each)] = each.detach()
    return deepcopy(model, known)
