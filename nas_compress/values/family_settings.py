"""Settings of families, for candidates, teachers and architectures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar

from nas_compress.errors import RequestError, refusal, require_known

PRUNED = "pruned"
"""The family of a user's own module: the teacher's graph with fewer channels. It has no settings."""

STEM_STRIDES = (1, 2, 4)
"""Strides of a first convolution."""

POOLINGS = ("class_token", "mean")
"""Input of a transformer's classifier: a learned token, or the mean of the patches."""

TOKEN_POOLINGS = ("first", "mean", "max")
"""Input of an encoder's classifier: the first token, or the mean or maximum of all tokens of a sample."""

NORMS = ("post", "pre")
"""Normalisation of the sums of an encoder layer, or of the inputs of its parts."""

POSITIONS = ("learned", "rotary")
"""Positions of tokens: a table added to the embedding, or turned queries and keys."""

CELLS = ("rnn", "lstm", "gru")
"""Cells of a recurrent layer."""

STATE_POOLINGS = ("last", "mean", "max")
"""Input of a recurrent network's head: the last states, or the mean or maximum of all states of a sequence."""

SHARINGS = ("none", "attention", "mlp", "all")
"""Weights shared by all layers of a transformer."""


@dataclass(frozen=True, kw_only=True)
class FamilySettings:
    """No settings; the base of every family's own.

    from_teacher: names of settings with a loss on a teacher's answers.
    students_only: names of settings for students, not for a study's teacher.
    in_weights: names of settings that change the shapes of weights; a student that inherits weights has its teacher's.
    cut_in_weights: those of `in_weights` that may be smaller than the teacher's, because the first rows are inherited.
    """

    from_teacher: ClassVar[tuple[str, ...]] = ()
    students_only: ClassVar[tuple[str, ...]] = ()
    in_weights: ClassVar[tuple[str, ...]] = ()
    cut_in_weights: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @cache  # read many times for each record
    def defaults(cls) -> Mapping[str, Any]:
        """Default values by name."""
        return MappingProxyType({each.name: each.default for each in fields(cls) if each.default is not MISSING})

    def to_dict(self) -> dict[str, Any]:
        """Values by name."""
        return {known.name: getattr(self, known.name) for known in fields(self)}

    @property
    def shares_weights(self) -> bool:
        """True if layers share weights, so that they cannot inherit a teacher's."""
        return False

    def without_teacher(self) -> FamilySettings:
        """The same settings without those in `from_teacher`."""
        return replace(self, **{name: self.defaults()[name] for name in self.from_teacher})


@dataclass(frozen=True, kw_only=True)
class ConvolutionalSettings(FamilySettings):
    """Settings of a convolutional family.

    stem_stride: stride of the first layer; 2 or 4 shrink a larger image at once.
    """

    stem_stride: int = 1

    def __post_init__(self) -> None:
        stride: object = self.stem_stride
        if isinstance(stride, bool) or stride not in STEM_STRIDES:
            raise RequestError(f"stem_stride must be one of 1, 2, 4, but got stem_stride={stride!r}")
        object.__setattr__(self, "stem_stride", int(self.stem_stride))


@dataclass(frozen=True, kw_only=True)
class TransformerSettings(FamilySettings):
    """Settings of a vision transformer. If a value is None, the family chooses it.

    heads: number of attention heads of each layer.
    mlp_ratio: inner width of a layer's perceptron, as a multiple of the stream's width.
    patch_size: side of a square patch, in pixels.
    pooling: one of POOLINGS.
    distillation_token: a second token and classifier, trained by the teacher alone.
    sharing: one of SHARINGS.
    """

    heads: int | None = None
    mlp_ratio: float | None = None
    patch_size: int | None = None
    pooling: str | None = None
    distillation_token: bool = False
    sharing: str = "none"

    from_teacher: ClassVar[tuple[str, ...]] = ("distillation_token",)
    students_only: ClassVar[tuple[str, ...]] = ("distillation_token", "sharing")

    def __post_init__(self) -> None:
        for name in ("heads", "patch_size"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        if self.mlp_ratio is not None:
            object.__setattr__(self, "mlp_ratio", _ratio("mlp_ratio", self.mlp_ratio))
        if self.pooling is not None:
            require_known("pooling", self.pooling, POOLINGS)
        token: object = self.distillation_token
        if not isinstance(token, bool):
            raise RequestError(f"distillation_token must be true or false, but got distillation_token={token!r}")
        require_known("sharing", self.sharing, SHARINGS)

    @property
    def shares_weights(self) -> bool:
        """True if `sharing` is on."""
        return self.sharing != "none"


@dataclass(frozen=True, kw_only=True)
class EncoderSettings(FamilySettings):
    """Settings of an encoder of tokens. If a value is None, the family chooses it.

    heads, mlp_ratio, sharing: as in a vision transformer.
    pooling: one of TOKEN_POOLINGS.
    norm: one of NORMS. positions: one of POSITIONS.
    embedding_width: numbers per token of a factorised embedding; None: the width of the stream.
    max_tokens: tokens that the network reads; the rest of a longer sample is left out.
    """

    heads: int | None = None
    mlp_ratio: float | None = None
    pooling: str | None = None
    sharing: str = "none"
    norm: str = "post"
    positions: str = "learned"
    embedding_width: int | None = None
    max_tokens: int = 128

    in_weights: ClassVar[tuple[str, ...]] = ("norm", "positions", "embedding_width", "max_tokens")
    cut_in_weights: ClassVar[tuple[str, ...]] = ("max_tokens",)
    students_only: ClassVar[tuple[str, ...]] = ("sharing",)

    def __post_init__(self) -> None:
        for name in ("heads", "embedding_width", "max_tokens"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        if self.mlp_ratio is not None:
            object.__setattr__(self, "mlp_ratio", _ratio("mlp_ratio", self.mlp_ratio))
        if self.pooling is not None:
            require_known("pooling", self.pooling, TOKEN_POOLINGS)
        require_known("sharing", self.sharing, SHARINGS)
        require_known("norm", self.norm, NORMS)
        require_known("positions", self.positions, POSITIONS)

    @property
    def shares_weights(self) -> bool:
        """True if `sharing` is on."""
        return self.sharing != "none"


@dataclass(frozen=True, kw_only=True)
class PerceptronSettings(FamilySettings):
    """Settings of a multilayer perceptron.

    residual: blocks of two linear layers add to their input; otherwise a block is one linear layer.
    """

    residual: bool = True

    def __post_init__(self) -> None:
        given: object = self.residual
        if not isinstance(given, bool):
            raise RequestError(f"residual must be true or false, but got residual={given!r}")


@dataclass(frozen=True, kw_only=True)
class SeriesSettings(FamilySettings):
    """Settings of convolutions over time.

    stem_stride: stride of the first layer; 2 or 4 shrink a longer series at once.
    kernel_size: steps of a kernel, odd. depthwise: blocks of 1x1, depthwise and 1x1 convolutions.
    dilation_growth: factor of the dilation from a block to the next one of its stage.
    """

    stem_stride: int = 1
    kernel_size: int = 5
    depthwise: bool = False
    dilation_growth: int = 1

    in_weights: ClassVar[tuple[str, ...]] = ("kernel_size", "depthwise")

    def __post_init__(self) -> None:
        stride: object = self.stem_stride
        if isinstance(stride, bool) or stride not in STEM_STRIDES:
            raise RequestError(f"stem_stride must be one of 1, 2, 4, but got stem_stride={stride!r}")
        for name in ("stem_stride", "kernel_size", "dilation_growth"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        if self.kernel_size % 2 == 0:
            raise RequestError(f"kernel_size must be odd, but got kernel_size={self.kernel_size}")
        given: object = self.depthwise
        if not isinstance(given, bool):
            raise RequestError(f"depthwise must be true or false, but got depthwise={given!r}")


@dataclass(frozen=True, kw_only=True)
class RecurrentSettings(FamilySettings):
    """Settings of a recurrent network.

    cell: one of CELLS. bidirectional: a second cell reads each sequence backwards.
    pooling: one of STATE_POOLINGS; None: `max`.
    embedding_width: numbers per token; a series has its channels instead.
    """

    cell: str = "lstm"
    bidirectional: bool = True
    pooling: str | None = None
    embedding_width: int = 64

    def __post_init__(self) -> None:
        require_known("cell", self.cell, CELLS)
        given: object = self.bidirectional
        if not isinstance(given, bool):
            raise RequestError(f"bidirectional must be true or false, but got bidirectional={given!r}")
        if self.pooling is not None:
            require_known("pooling", self.pooling, STATE_POOLINGS)
        object.__setattr__(self, "embedding_width", whole_number("embedding_width", self.embedding_width))


@dataclass(frozen=True, kw_only=True)
class BagSettings(FamilySettings):
    """A mean of embeddings has no settings."""


@dataclass(frozen=True, kw_only=True)
class TextConvolutionSettings(FamilySettings):
    """Settings of convolutions over the tokens of a text.

    kernel_sizes: tokens that a filter reads, one number for each group of filters.
    """

    kernel_sizes: tuple[int, ...] = (3, 4, 5)

    in_weights: ClassVar[tuple[str, ...]] = ("kernel_sizes",)

    def __post_init__(self) -> None:
        given: object = self.kernel_sizes
        if not isinstance(given, list | tuple) or not given:
            raise RequestError(f"kernel_sizes must be one whole number or more, but got kernel_sizes={given!r}")
        object.__setattr__(self, "kernel_sizes", tuple(whole_number("kernel_sizes", size) for size in given))


SETTINGS: Mapping[str, type[FamilySettings]] = {
    "resnet": ConvolutionalSettings,
    "mobilenet": ConvolutionalSettings,
    "vit": TransformerSettings,
    "mlp": PerceptronSettings,
    "conv1d": SeriesSettings,
    "unet": ConvolutionalSettings,
    "encoder": EncoderSettings,
    "recurrent": RecurrentSettings,
    "text_bag": BagSettings,
    "text_cnn": TextConvolutionSettings,
}
"""Every family of `models.families` and the class of its settings."""

PUBLISHED = {**ConvolutionalSettings.defaults(), **TransformerSettings.defaults()}
"""Settings in the flat form of every candidate, of any family: stored fingerprints depend on them."""


def setting_names() -> tuple[str, ...]:
    """Names of the settings of all families, each once."""
    return tuple(dict.fromkeys(name for kind in SETTINGS.values() for name in kind.defaults()))


def teacher_setting_names() -> tuple[str, ...]:
    """Names of the settings of a study's teacher."""
    students_only = {name for kind in SETTINGS.values() for name in kind.students_only}
    return tuple(name for name in setting_names() if name not in students_only)


def settings_class(family: str, where: str = "") -> type[FamilySettings]:
    """The class of a family's settings; RequestError for an unknown family."""
    if family == PRUNED:
        return FamilySettings
    require_known("a family", family, SETTINGS, where)
    return SETTINGS[family]


def family_settings(family: str, given: Mapping[str, object], where: str = "") -> FamilySettings:
    """The settings of a family from values by name.

    RequestError for another family's setting, unless it has its default value.

    >>> family_settings("resnet", {"stem_stride": 2, "heads": None})
    ConvolutionalSettings(stem_stride=2)
    """
    kind = settings_class(family, where)
    own = kind.defaults()
    for name, value in given.items():
        if name in own:
            continue
        owners = [owner for owner, other in SETTINGS.items() if name in other.defaults()]
        if not owners:
            require_known("a setting of a family", name, setting_names(), where)
        if value != SETTINGS[owners[0]].defaults()[name]:
            known = " and ".join(filter(None, (", ".join(owners[:-1]), owners[-1])))
            raise refusal(f"{name} is a setting of {known}, but got {name}={value!r} for family {family!r}", where)
    return kind(**{name: value for name, value in given.items() if name in own})


def flat_settings(settings: FamilySettings) -> dict[str, Any]:
    """Values by name in the stored flat form: the published ones, then the family's own."""
    return PUBLISHED | settings.to_dict()


def whole_number(name: str, value: object) -> int:
    """The value as an int; RequestError unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < math.inf or value % 1:
        raise RequestError(f"{name} must be a whole number of at least 1, but got {name}={value!r}")
    return int(value)


def _ratio(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise RequestError(f"0 < {name} < inf must hold, but got {name}={value!r}")
    return float(value)
