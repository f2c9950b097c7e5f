"""What a loss term is: a name for a function of logits, or of what two networks show of themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from nas_compress.errors import RequestError, nearest
from nas_compress.models.features import Observation

Settings = Mapping[str, float]

LogitFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(student logits (B, C), labels (B,), teacher logits (B, C)) to a scalar; terms on labels ignore the teacher's."""

Needs = Literal["features", "maps", "tokens", "relations"]
"""What a term on features needs of both networks: any features, maps (B, c, h, w), tokens, or relations of tokens."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One number that a term takes, with its default and its open range; `zero` says what 0 means where it is taken."""

    default: float
    above: float
    below: float
    zero: str = ""

    def require(self, name: str, value: float, term: str) -> None:
        """Raise RequestError for a value out of range."""
        if not (self.above < value < self.below or (self.zero and value == 0)):
            rule = f"{self.above:g} < {name} < {self.below:g}" + (f" or {name} = 0 ({self.zero})" if self.zero else "")
            raise RequestError(f"{rule} must hold for loss {term!r}, but got {name}={value:g}")


@dataclass(frozen=True, kw_only=True)
class LogitTerm:
    """A loss of the student's logits, the labels, and the teacher's logits where it `needs_teacher`."""

    summary: str
    source: str
    needs_teacher: bool
    bind: Callable[[Settings], LogitFunction]
    settings: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def needs(self) -> str:
        """In words, what the term reads."""
        return "teacher logits" if self.needs_teacher else "labels"


class FeatureLoss(nn.Module):
    """A loss of two observations. What it learns (adaptation layers) is trained with the student and then dropped."""

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """A scalar in float32; no gradient reaches the teacher."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class FeatureTerm:
    """A loss of what student and teacher compute on the way; `build` makes it for the shapes of two observations.

    `build` raises RequestError where the two do not fit.
    """

    summary: str
    source: str
    needs: Needs
    build: Callable[[Settings, Observation, Observation], FeatureLoss]
    settings: Mapping[str, Setting] = field(default_factory=dict)
    needs_teacher: bool = True


Term = LogitTerm | FeatureTerm


def complete_settings(name: str, term: Term, given: Settings) -> dict[str, float]:
    """The settings with defaults for those left out; RequestError for an unknown one or one out of range."""
    chosen = {key: setting.default for key, setting in term.settings.items()}
    for key, value in given.items():
        if key not in term.settings:
            raise RequestError(f"loss {name!r} has no setting {key!r}{nearest(key, term.settings)}")
        term.settings[key].require(key, value, name)
        chosen[key] = value
    return chosen
