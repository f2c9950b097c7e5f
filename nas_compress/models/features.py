"""What a network shows of itself while it answers: the interface of distillation on features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from torch import Tensor, nn

BEFORE_STAGES = ("stem", "embedding")
"""Names of features that come before the first stage or layer."""

Relations = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values of an attention layer, each (B, heads, tokens, head width)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Observation:
    """One forward pass over B samples: logits and what the network computed on the way, in forward order.

    logits: (B, C), or (B, members, C) of an ensemble. features: convolutional families `stem`, `stage0`, `stage1`, ...,
    each (B, c, h, w); a transformer `embedding`, `layer0`, `layer1`, ..., each (B, tokens, width); a module of any make
    those of its submodules that were named, each of these kinds or a vector (B, width). relations: of a
    transformer by layer, queries, keys and values, each (B, heads, tokens, head width); empty where they were not asked
    for, or there are none. distillation_logits: (B, C) of the classifier on the distillation token, where the network
    has one; `logits` are then those of the other classifier alone, and calling the network gives the mean of the two
    (Touvron et al. 2021, arXiv 2012.12877). patches: so many last tokens are the image's, those before are special.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)
    relations: Mapping[str, Relations] = field(default_factory=dict)
    distillation_logits: Tensor | None = None
    patches: int = 0

    @property
    def answer(self) -> Tensor:
        """What the network answers, (B, C): the logits, or the mean of both classifiers'."""
        if self.distillation_logits is None:
            return self.logits
        return (self.logits + self.distillation_logits) / 2

    @property
    def taught_logits(self) -> Tensor:
        """What is compared with a teacher's answers, (B, C): those of the distillation token, where there is one."""
        return self.logits if self.distillation_logits is None else self.distillation_logits


class ObservableNetwork(nn.Module, ABC):
    """A network that can be watched: the common root of all families."""

    @abstractmethod
    def observe(self, samples: Tensor, *, relations: bool = False) -> Observation:
        """Answer raw uint8 samples (B, C, H, W); `relations` asks a transformer for its queries, keys and values."""

    def forward(self, samples: Tensor) -> Tensor:
        """Map raw uint8 samples (B, C, H, W) to logits (B, classes)."""
        return self.observe(samples).answer


def watch(module: nn.Module, batch: Mapping[str, Tensor], names: Sequence[str]) -> Observation:
    """Run any module on a batch, and show what its named submodules gave, in forward order.

    Of a submodule that is called more than once, the last answer; one that is not called is left out.
    """
    features: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def keep(part: nn.Module, given: object, answer: Tensor) -> None:
            features[name] = answer

        return keep

    with ExitStack() as hooks:
        for name in names:
            hooks.callback(module.get_submodule(name).register_forward_hook(keeper(name)).remove)
        logits = module(*batch.values())
    return Observation(logits=logits, features=features)
