"""Networks without values: parameters have shapes, but no memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

DRAWS = ("normal_", "trunc_normal_", "uniform_", "orthogonal_")
"""Last words of the names of functions that draw values in place, in `torch.nn.init` and in `Tensor`."""


@contextmanager
def shapes_only() -> Iterator[None]:
    """Build the networks of a block on the device `meta`, and draw no initial values.

    >>> with shapes_only():
    ...     layer = torch.nn.Embedding(30_000, 512)
    >>> layer.weight.device.type, layer.weight.numel()
    ('meta', 15360000)
    """
    with torch.device("meta"), _WithoutDraws():
        yield


class _WithoutDraws(TorchFunctionMode):
    # a normal draw on the device `meta` imports torch._dynamo, which takes seconds
    def __torch_function__(
        self,
        function: Callable[..., Any],
        kinds: Sequence[type],
        arguments: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the tensor of a draw as it is."""
        named = named or {}
        if getattr(function, "__name__", "").endswith(DRAWS):
            drawn = arguments[0] if arguments else named.get("tensor")
            if isinstance(drawn, Tensor) and drawn.is_meta:
                return drawn
        return function(*arguments, **named)
