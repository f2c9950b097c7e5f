"""Weights of a cut teacher, loaded into a student of its shape."""

from __future__ import annotations

from torch import Tensor, nn

TABLES = ("position.weight", "rotation.places")
"""Ends of the names of tables with a row for each token; a student that reads fewer tokens has the first rows."""


def load_inherited_(student: nn.Module, source: nn.Module) -> None:
    """Load the weights of a network into a student in place, with the epsilon of each normalisation.

    source: of the student's shape, apart from further rows of TABLES and other epsilons.
    """
    own = student.state_dict()
    student.load_state_dict({name: _fitting(name, values, own[name]) for name, values in source.state_dict().items()})
    for name, module in student.named_modules():
        if hasattr(module, "eps"):
            module.eps = source.get_submodule(name).eps


def _fitting(name: str, values: Tensor, own: Tensor) -> Tensor:
    return values[: len(own)] if name.endswith(TABLES) else values
