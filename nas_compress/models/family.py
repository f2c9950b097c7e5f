"""The interface of a family of networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from torch import nn

from nas_compress.errors import RequestError
from nas_compress.models.features import ObservableNetwork
from nas_compress.values.architecture import Architecture
from nas_compress.values.family_settings import FamilySettings
from nas_compress.values.signature import Signature

Settings = TypeVar("Settings", bound=FamilySettings)

FreeLayers: TypeAlias = list[tuple[str, int]]
"""Layers whose width is searched: (module path, base channels), in forward order."""


class Family(ABC, Generic[Settings]):
    """A kind of network: its settings, its searched widths, and its construction.

    Subclasses define the attributes and the abstract methods. `models.families` lists one instance of each.

    summary, source: texts for lists; the source names an arXiv number.
    base_widths, base_depths: default channels and blocks of each stage.
    settings: class of the family's settings, as in `values.family_settings.SETTINGS`.
    has_attention: True if pruning may remove attention heads.
    has_channels: False if no channels of a network can be ranked and removed; its widths are searched only.
    has_removable_blocks: False if no block adds to its input, so that a network cannot inherit fewer of them.
    has_narrower_stream: False if the channels that all blocks share cannot be fewer in a network that inherits.
    """

    summary: ClassVar[str]
    source: ClassVar[str]
    base_widths: ClassVar[tuple[int, ...]]
    base_depths: ClassVar[tuple[int, ...]]
    settings: type[Settings]
    has_attention: ClassVar[bool] = False
    has_channels: ClassVar[bool] = True
    has_removable_blocks: ClassVar[bool] = True
    has_narrower_stream: ClassVar[bool] = True

    def fits(self, signature: Signature) -> bool:
        """Return True if the family builds networks of these inputs and outputs: one image to a vector by default."""
        try:
            _ = signature.image_shape, signature.vector_size
        except RequestError:
            return False
        return True

    def layers(
        self, depths: tuple[int, ...], base_widths: tuple[int, ...], settings: FamilySettings | None = None
    ) -> FreeLayers:
        """Free layers at these depths and stage widths; default settings if none are given."""
        return self._layers(depths, base_widths, self.own(settings))

    @abstractmethod
    def _layers(self, depths: tuple[int, ...], base_widths: tuple[int, ...], settings: Settings) -> FreeLayers: ...

    @abstractmethod
    def build(self, architecture: Architecture) -> ObservableNetwork:
        """A network of that architecture with fresh weights from torch's global random state."""

    @abstractmethod
    def blocks(self, network: nn.Module) -> Sequence[nn.ModuleList | nn.Sequential]:
        """The blocks of each stage; deleting one from its list removes it from the network."""

    @abstractmethod
    def is_removable(self, block: nn.Module) -> bool:
        """Return True if the block adds to its input, so the network works without it."""

    def complete(self, architecture: Architecture) -> Architecture:
        """The architecture with every open setting filled in; RequestError if its parts do not fit."""
        return architecture

    def multiples(self, layers: Sequence[str], settings: FamilySettings) -> Mapping[str, int]:
        """Divisors of the channels of a layer, by layer: the heads of each attention."""
        return {}

    def repeats(self, layer: str, settings: FamilySettings) -> bool:
        """Return True if a free layer shares the weights of an earlier one, and so its width."""
        return False

    def heads(self, settings: FamilySettings) -> int | None:
        """Heads of each attention; None for a family without attention."""
        return None

    def require_dynamic_ranges(self) -> None:
        """Raise RequestError unless files of the family may find the ranges of activations while they run."""
        raise RequestError(
            "ranges='dynamic' needs a family of encoder layers (vit, encoder), but got another family; use another "
            "rule of ranges"
        )

    def require_activation_bits(self, bits: int, settings: FamilySettings) -> None:
        """Raise RequestError if no file of the family has activations of fewer than 32 bits."""

    def reduction(self, settings: FamilySettings) -> int:
        """Factor by which the first layer divides height and width."""
        return 1

    def own(self, settings: FamilySettings | None) -> Settings:
        """The settings as this family's class; RequestError if they belong to another family."""
        if settings is None:
            return self.settings()
        if not isinstance(settings, self.settings):
            raise RequestError(f"settings must be {self.settings.__name__}, but got {type(settings).__name__}")
        return settings


AnyFamily: TypeAlias = Family[Any]
"""A family of any settings."""
