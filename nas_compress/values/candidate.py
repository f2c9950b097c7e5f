"""Candidate: one proposal of a search, as a frozen value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from nas_compress.errors import RequestError
from nas_compress.values.exits.settings import Exits as Exits
from nas_compress.values.family_settings import PRUNED as PRUNED
from nas_compress.values.family_settings import (
    FamilySettings,
    family_settings,
    flat_settings,
    setting_names,
    settings_class,
)
from nas_compress.values.precision import Precision as Precision
from nas_compress.values.precision import Quantization as Quantization
from nas_compress.values.pruning import Pruning as Pruning
from nas_compress.values.pruning import Sparsity as Sparsity
from nas_compress.values.requested_shape import Shape as Shape
from nas_compress.values.teaching import LossTerm as LossTerm
from nas_compress.values.teaching import Teaching as Teaching
from nas_compress.values.teaching import cross_entropy as cross_entropy
from nas_compress.values.teaching import distillation as distillation
from nas_compress.values.teaching import label_smoothing as label_smoothing

Part = TypeVar("Part", Pruning, Precision, Sparsity)


@dataclass(frozen=True, init=False)
class Candidate:
    """One point of a search space: a shape, what is removed from it, its bits, and how it is taught.

    Search spaces give flat keywords; the parts name and explain them. Code may give whole parts. Given both, the flat
    keywords change the part, and so `dataclasses.replace` takes either.

    shape: family, depths, width_multiplier, round_to, factorization, rank_fraction, and the family's settings
        (`settings`, or stem_stride, heads, mlp_ratio, patch_size, pooling, distillation_token, sharing by name).
    pruning: pruning_ratio, pruning_criterion, pruning_ranking, pruning_min_channels, kept_blocks, head_ratio,
        min_heads, init, pruning_rounds.
    precision: weight_bits, activation_bits, quantization.
    sparsity: zero_pattern, zero_fraction.
    teaching: the teacher and its schedule.
    losses: terms of the training loss, each once.
    exits: early exits, None for a network without them.
    image_size: pixels of a side of its pictures, one of `[data] image_size`; None for the teacher's.
    vocabulary_size: word pieces of its texts, one of `[data] vocabulary_size`; None for the teacher's vocabulary.

    >>> candidate = Candidate(family="resnet", depths=(1, 1, 1), pruning_ratio=0.5, weight_bits=8)
    >>> candidate.pruning.ratio, candidate.precision.weight_bits
    (0.5, 8)
    >>> replace(candidate, weight_bits=4) == replace(candidate, precision=Precision(weight_bits=4))
    True
    """

    shape: Shape
    pruning: Pruning
    precision: Precision
    sparsity: Sparsity
    teaching: Teaching
    losses: tuple[LossTerm, ...]
    exits: Exits | None
    image_size: int | None
    vocabulary_size: int | None

    def __init__(
        self,
        *,
        shape: Shape | None = None,
        pruning: Pruning | None = None,
        precision: Precision | None = None,
        sparsity: Sparsity | None = None,
        teaching: Teaching | None = None,
        losses: Iterable[LossTerm] | None = None,
        exits: Exits | None = None,
        image_size: int | None = None,
        vocabulary_size: int | None = None,
        family: str | None = None,
        depths: Iterable[int] | None = None,
        width_multiplier: float | None = None,
        round_to: int | None = None,
        factorization: str | None = None,
        rank_fraction: float | None = None,
        settings: FamilySettings | None = None,
        stem_stride: int | None = None,
        heads: int | None = None,
        mlp_ratio: float | None = None,
        patch_size: int | None = None,
        pooling: str | None = None,
        distillation_token: bool | None = None,
        sharing: str | None = None,
        pruning_ratio: float | None = None,
        pruning_criterion: str | None = None,
        pruning_ranking: str | None = None,
        pruning_min_channels: int | None = None,
        kept_blocks: str | None = None,
        head_ratio: float | None = None,
        min_heads: int | None = None,
        init: str | None = None,
        pruning_rounds: int | None = None,
        weight_bits: int | None = None,
        activation_bits: int | None = None,
        quantization: Quantization | None = None,
        zero_pattern: str | None = None,
        zero_fraction: float | None = None,
    ) -> None:
        parts: dict[str, object] = {
            "shape": _shape(
                shape,
                {
                    "family": family,
                    "depths": None if depths is None else tuple(depths),
                    "width_multiplier": width_multiplier,
                    "round_to": round_to,
                    "factorization": factorization,
                    "rank_fraction": rank_fraction,
                    "settings": settings,
                },
                {
                    "stem_stride": stem_stride,
                    "heads": heads,
                    "mlp_ratio": mlp_ratio,
                    "patch_size": patch_size,
                    "pooling": pooling,
                    "distillation_token": distillation_token,
                    "sharing": sharing,
                },
            ),
            "pruning": _changed(
                pruning or Pruning(),
                {
                    "ratio": pruning_ratio,
                    "criterion": pruning_criterion,
                    "ranking": pruning_ranking,
                    "min_channels": pruning_min_channels,
                    "kept_blocks": kept_blocks,
                    "head_ratio": head_ratio,
                    "min_heads": min_heads,
                    "init": init,
                    "rounds": pruning_rounds,
                },
            ),
            "precision": _changed(
                precision or Precision(),
                {"weight_bits": weight_bits, "activation_bits": activation_bits, "quantization": quantization},
            ),
            "sparsity": _changed(sparsity or Sparsity(), {"pattern": zero_pattern, "fraction": zero_fraction}),
            "teaching": teaching or Teaching(),
            "losses": cross_entropy() if losses is None else tuple(losses),
            "exits": exits,
            "image_size": None if image_size is None else int(image_size),
            "vocabulary_size": None if vocabulary_size is None else int(vocabulary_size),
        }
        for name, part in parts.items():
            object.__setattr__(self, name, part)
        self._check()

    def _check(self) -> None:
        if self.exits is not None and self.shape.family == PRUNED:
            raise RequestError(f"exits need a family with stages or layers, but got {PRUNED!r}")
        stage_bits, depths = self.precision.quantization.stage_bits, self.shape.depths
        if stage_bits and len(stage_bits) != len(depths):
            raise RequestError(
                f"stage_bits must have one entry per stage ({len(depths)}), but got stage_bits={stage_bits}"
            )
        signs = self.precision.sign_layers
        if self.sparsity.pattern != "none" and signs:
            raise RequestError(f"a zero_pattern needs weights that can be 0, but got {', '.join(signs)} (signs)")
        if not self.losses:
            raise RequestError("losses must name at least one term, but got none")
        names = [term.name for term in self.losses]
        if len(set(names)) < len(names):
            raise RequestError(f"losses must name each term once, but got {', '.join(names)}")

    @property
    def data_size(self) -> int | None:
        """The size of its pictures or its vocabulary; None for the teacher's."""
        return self.vocabulary_size if self.image_size is None else self.image_size

    def in_float32(self, round_to: int) -> Candidate:
        """The same shape without rounding or zeros. round_to: the step of the widths before, which must not change."""
        shape = replace(self.shape, round_to=round_to)
        return replace(self, shape=shape, precision=Precision(), sparsity=Sparsity())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON in the flat form; `from_dict` reads them back."""
        shape, pruning, precision = self.shape, self.pruning, self.precision
        quantization = asdict(precision.quantization)
        quantization["stage_bits"] = list(quantization["stage_bits"])
        if quantization["embedding_bits"] is None:  # as in files from before this setting
            del quantization["embedding_bits"]
        return {
            "family": shape.family,
            "depths": list(shape.depths),
            "width_multiplier": shape.width_multiplier,
            "pruning_ratio": pruning.ratio,
            "pruning_criterion": pruning.criterion,
            "weight_bits": precision.weight_bits,
            "activation_bits": precision.activation_bits,
            "losses": [
                {"name": term.name, "weight": term.weight, "settings": dict(term.settings)} for term in self.losses
            ],
            "teaching": self.teaching.to_dict(),
            "pruning_ranking": pruning.ranking,
            "pruning_min_channels": pruning.min_channels,
            "round_to": shape.round_to,
            "init": pruning.init,
            "quantization": quantization,
            "zero_pattern": self.sparsity.pattern,
            "zero_fraction": self.sparsity.fraction,
            "factorization": shape.factorization,
            "rank_fraction": shape.rank_fraction,
            "kept_blocks": pruning.kept_blocks,
            "head_ratio": pruning.head_ratio,
            "min_heads": pruning.min_heads,
            **flat_settings(shape.settings),
            **({} if pruning.rounds == 1 else {"pruning_rounds": pruning.rounds}),
            **({} if self.exits is None else {"exits": asdict(self.exits)}),
            **({} if self.image_size is None else {"image_size": self.image_size}),
            **({} if self.vocabulary_size is None else {"vocabulary_size": self.vocabulary_size}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Candidate:
        """The inverse of `to_dict`. Missing values of older files get their defaults."""
        known = dict(values)
        settings = {name: known.pop(name) for name in setting_names() if name in known}
        known["settings"] = family_settings(known["family"], settings)
        known["losses"] = tuple(
            LossTerm(name=term["name"], weight=term["weight"], settings=term["settings"])
            for term in known.get("losses", ())
        )
        known["teaching"] = Teaching(**known.get("teaching", {}))
        known["quantization"] = Quantization(**known.get("quantization", {}))
        known["exits"] = Exits(**known["exits"]) if known.get("exits") is not None else None
        return cls(**known)

    @property
    def control(self) -> str:
        """The candidate's role as a control of pruning, in words; empty if it has none.

        Controls test that it matters which channels remain: inherited weights, random importance, and a uniform width,
        after Liu et al. 2019 (arXiv 1810.05270) and Crowley et al. 2018 (arXiv 1810.04622).
        """
        pruning = self.pruning
        by_importance = pruning.ratio > 0 and pruning.criterion != "uniform"
        uniform = not by_importance and pruning.head_ratio == 0
        shape = "uniform width" if uniform else "random vote" if pruning.criterion == "random" else ""
        inherited = "inherited weights" if pruning.init == "inherit" else ""
        started = "weights of a float training" if self.teaching.scheme == "fine_tuned" else ""
        return ", ".join(filter(None, [inherited, started, shape]))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, equal for equal candidates only."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _changed(part: Part, values: Mapping[str, Any]) -> Part:
    given = {name: value for name, value in values.items() if value is not None}
    return replace(part, **given) if given else part


def _shape(shape: Shape | None, values: Mapping[str, Any], settings: Mapping[str, Any]) -> Shape:
    """The shape with the given values; settings of another family do not carry over."""
    given = {name: value for name, value in values.items() if value is not None}
    chosen = {name: value for name, value in settings.items() if value is not None}
    family = given.get("family", None if shape is None else shape.family)
    if family is None:
        raise RequestError("a candidate must have a family, but got none")
    if "settings" not in given:
        same = shape is not None and isinstance(shape.settings, settings_class(family))
        before = shape.settings.to_dict() if shape is not None and same else {}
        given["settings"] = family_settings(family, before | chosen)
    elif chosen:
        given["settings"] = replace(given["settings"], **chosen)
    return Shape(**given) if shape is None else replace(shape, **given)
