"""One output of a module that returns several: a dict, a tuple, a dataclass or a ModelOutput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, cast

from torch import Tensor, fx, nn

from nas_compress.errors import RequestError, nearest

KEY = "teacher.output"
"""Key of the choice in a study file."""


def choose_output(module: nn.Module, output: str | int | None, *, inputs: int = 1) -> nn.Module:
    """Let a module return only the output of this name or place; all of them if None.

    The module gets a subclass of its own class, so that paths of its layers stay; a graph of torch.fx gets one more
    operation, because its copies would lose the class. RequestError in a pass if there is no such output.

    inputs: number of inputs.
    """
    if output is None:
        return module
    if isinstance(module, fx.GraphModule):
        _choose_in_graph_(module, output)
        return module
    own = type(module)
    first = _Chosen if inputs == 1 else _ChosenOfMany
    chosen = type(own.__name__, (first, own), {"__module__": own.__module__, "chosen_output": output})
    module.__class__ = cast(Any, chosen)
    return module


def _choose_in_graph_(module: fx.GraphModule, output: str | int) -> None:
    end = next(node for node in reversed(module.graph.nodes) if node.op == "output")
    with module.graph.inserting_before(end):
        end.args = (module.graph.call_function(pick, (end.args[0], output)),)
    module.recompile()


class _Chosen(nn.Module):
    """First base of a class whose pass returns one output of the next base."""

    chosen_output: str | int

    def forward(self, samples: Tensor) -> Any:
        """Return the chosen output; torch.fx cannot trace a free number of arguments."""
        return pick(super().forward(samples), self.chosen_output)


class _ChosenOfMany(nn.Module):
    """The same for several inputs."""

    chosen_output: str | int

    def forward(self, *samples: Tensor) -> Any:
        """Return the chosen output."""
        return pick(super().forward(*samples), self.chosen_output)


def pick(returned: Any, output: str | int) -> Any:
    """Return the output of this name or place; RequestError with all names if there is none."""
    parts = named_parts(returned)
    places = list(parts.values())
    if isinstance(output, int) and -len(places) <= output < len(places) and not isinstance(returned, Tensor):
        return places[output]
    if output in parts:
        return parts[str(output)]
    hint = nearest(str(output), parts) or f"; it returned {shown(returned)}"
    raise RequestError(f"{KEY} must be an output of the module, but got {output!r}{hint}")


def named_parts(returned: Any) -> dict[str, Any]:
    """Return the outputs by name; the names of a tuple or list are its places."""
    if isinstance(returned, Mapping):
        return {str(name): value for name, value in returned.items()}
    if is_dataclass(returned) and not isinstance(returned, type):
        return {field.name: getattr(returned, field.name) for field in fields(returned)}
    if isinstance(returned, tuple) and hasattr(returned, "_fields"):
        return dict(zip(returned._fields, returned, strict=True))
    if isinstance(returned, Sequence) and not isinstance(returned, str):
        return {str(place): value for place, value in enumerate(returned)}
    return {}


def shown(returned: Any) -> str:
    """Return types and shapes of the outputs in words, with the names of a dict or dataclass."""
    if isinstance(returned, Tensor):
        return str(tuple(returned.shape))
    parts = named_parts(returned)
    if not parts:
        return type(returned).__name__
    if type(returned) in (tuple, list):
        return ", ".join(map(shown, returned))
    return f"{type(returned).__name__} with " + ", ".join(f"{name} {shown(value)}" for name, value in parts.items())
