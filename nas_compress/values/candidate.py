"""What a search proposes: a small frozen value that can be hashed, printed and stored without any framework."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nas_compress.errors import RequestError, require_known
from nas_compress.values.family_settings import PRUNED as PRUNED
from nas_compress.values.family_settings import PUBLISHED, FamilySettings, family_settings, whole_number
from nas_compress.values.precision import END_BITS, check_bits, precision_in_words
from nas_compress.values.precision import Quantization as Quantization
from nas_compress.values.teaching import LossTerm as LossTerm
from nas_compress.values.teaching import Teaching as Teaching
from nas_compress.values.teaching import cross_entropy as cross_entropy
from nas_compress.values.teaching import distillation as distillation
from nas_compress.values.teaching import label_smoothing as label_smoothing

INITS = ("scratch", "inherit")
"""Fresh weights, or the teacher's kept channels."""

ZERO_PATTERNS = ("none", "one_shot", "gradual", "two_four", "targeted_weight", "targeted_unit")
"""Ways to put zeros into dense shapes: by magnitude at once or gradually, two of each four inputs, targeted dropout."""

FACTORIZATIONS = ("none", "low_rank", "tucker")
"""Layers whole, as two thinner ones, or with kernels as three."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One point of a search space: a shape, its bits and how it is taught.

    `width_multiplier` scales, `pruning_ratio` is the fraction of the teacher's channels that its vote removes
    (ranked by `pruning_criterion` among those that `pruning_ranking` lets compete, while each layer keeps
    `pruning_min_channels`), `depths` are blocks per stage; a `stem_stride` of 2 or 4 shrinks the input at once, for
    larger images. Family "pruned" is the teacher's own graph, cut: its depths are (). Widths are rounded to multiples
    of `round_to`, or of the runtime's own step where it is 0. The weights start afresh, unless `init` is "inherit":
    the control that fine-tunes what the teacher's cut leaves of its own. `zero_pattern` sets `zero_fraction` of the
    weights to 0 within the dense shapes, during the one training. `factorization` replaces layers by products of
    thinner ones, with `rank_fraction` of their channels between them. `quantization` says how a student of few bits
    comes to its integers. Where a student of the teacher's family has fewer blocks than it, `kept_blocks` says for
    which of them its own stand, in the vote and in what they inherit. `head_ratio` is the fraction of the teacher's
    attention heads that go as a whole, by their importance, while each layer keeps `min_heads`; attention then takes
    no part in the vote of `pruning_ratio`. `sharing` lets all layers of a transformer have the same weights: of their
    attention, of their MLP, or both.

    >>> Candidate(family="resnet", depths=(1, 1, 1)).fingerprint == Candidate(
    ...     family="resnet", depths=(1, 1, 1)).fingerprint
    True
    """

    family: str
    depths: tuple[int, ...]
    stem_stride: int = 1
    width_multiplier: float = 1.0
    pruning_ratio: float = 0.0
    pruning_criterion: str = "uniform"
    weight_bits: int = 32
    activation_bits: int = 32
    losses: tuple[LossTerm, ...] = (LossTerm(name="cross_entropy"),)
    teaching: Teaching = field(default_factory=Teaching)
    heads: int | None = None
    mlp_ratio: float | None = None
    patch_size: int | None = None
    pooling: str | None = None
    distillation_token: bool = False
    pruning_ranking: str = "global"
    pruning_min_channels: int = 1
    round_to: int = 0
    init: str = "scratch"
    quantization: Quantization = field(default_factory=Quantization)
    zero_pattern: str = "none"
    zero_fraction: float = 0.0
    factorization: str = "none"
    rank_fraction: float = 1.0
    kept_blocks: str = "first"
    head_ratio: float = 0.0
    min_heads: int = 1
    sharing: str = "none"

    def __post_init__(self) -> None:
        if self.family == PRUNED and (self.depths or self.stem_stride != 1):
            raise RequestError(
                "depths=() and stem_stride=1 must hold for family 'pruned', which keeps the teacher's own, "
                f"but got depths={self.depths}, stem_stride={self.stem_stride}"
            )
        wrong = any(depth < 1 or depth != int(depth) for depth in self.depths)
        if wrong or not (self.depths or self.family == PRUNED):
            raise RequestError(f"depths must be one or more blocks per stage, but got depths={self.depths}")
        # one form for each value: equal candidates share a fingerprint
        object.__setattr__(self, "depths", tuple(int(depth) for depth in self.depths))
        settings = self.settings
        for name in settings.defaults():
            object.__setattr__(self, name, getattr(settings, name))
        object.__setattr__(self, "losses", tuple(self.losses))
        object.__setattr__(self, "width_multiplier", float(self.width_multiplier))
        object.__setattr__(self, "pruning_ratio", float(self.pruning_ratio))
        if not 0 < self.width_multiplier < math.inf:
            raise RequestError(
                f"0 < width_multiplier < inf must hold, but got width_multiplier={self.width_multiplier}"
            )
        if not 0 <= self.pruning_ratio < 1:
            raise RequestError(f"0 <= pruning_ratio < 1 must hold, but got pruning_ratio={self.pruning_ratio}")
        if self.pruning_min_channels < 1:
            raise RequestError(
                f"pruning_min_channels >= 1 must hold, but got pruning_min_channels={self.pruning_min_channels}"
            )
        if self.round_to < 0:
            raise RequestError(f"round_to >= 0 must hold, but got round_to={self.round_to}")
        require_known("init", self.init, INITS)
        quantization: object = self.quantization
        if not isinstance(quantization, Quantization):
            raise RequestError(f"quantization must be a Quantization, but got quantization={quantization!r}")
        self._settle_stage_bits()
        require_known("zero_pattern", self.zero_pattern, ZERO_PATTERNS)
        object.__setattr__(self, "zero_fraction", float(self.zero_fraction))
        if not 0 <= self.zero_fraction < 1 or (self.zero_pattern == "none") != (self.zero_fraction == 0):
            raise RequestError(
                "0 < zero_fraction < 1 must hold with a zero_pattern, and 0 without, "
                f"but got zero_pattern={self.zero_pattern!r}, zero_fraction={self.zero_fraction}"
            )
        require_known("factorization", self.factorization, FACTORIZATIONS)
        object.__setattr__(self, "rank_fraction", float(self.rank_fraction))
        if not 0 < self.rank_fraction <= 1 or (self.factorization == "none") != (self.rank_fraction == 1):
            raise RequestError(
                "0 < rank_fraction < 1 must hold with a factorization, and 1 without, "
                f"but got factorization={self.factorization!r}, rank_fraction={self.rank_fraction}"
            )
        if self.zero_pattern == "two_four" and self.zero_fraction != 0.5:
            raise RequestError(
                f"zero_fraction=0.5 must hold for zero_pattern 'two_four', but got zero_fraction={self.zero_fraction}"
            )
        check_bits(self.weight_bits, self.activation_bits, self.quantization)
        self._settle_ranges()
        self._check_zeros_fit()
        if not self.losses:
            raise RequestError("losses must name at least one term, but got none")
        names = [term.name for term in self.losses]
        if len(set(names)) < len(names):
            raise RequestError(f"each loss may stand once in losses, but got {', '.join(names)}")

        self._check_transformer()

    def _settle_ranges(self) -> None:
        """Float activations have no range: `ranges` is what it would be if not given, unless it scales the weights."""
        chosen = self.quantization
        fixed = chosen.is_trained or self.weight_bits > END_BITS or chosen.weight_format == "float8"
        if self.activation_bits == 32 and (fixed or chosen.ranges == "percentile"):
            object.__setattr__(self, "quantization", replace(chosen, ranges=""))

    def _check_zeros_fit(self) -> None:
        """Signs alone cannot be 0, in no layer; of two shared values one can."""
        chosen = self.quantization
        if chosen.weight_format == "codebook":
            return
        signs = [
            f"{name}={value}"
            for name, value, has_signs in (
                ("weight_bits", self.weight_bits, self.weight_bits == 1),
                ("stage_bits", chosen.stage_bits, 1 in chosen.stage_bits),
                ("end_bits", chosen.end_bits, chosen.end_bits == 1 and self.weight_bits <= END_BITS),
            )
            if has_signs
        ]
        if self.zero_pattern != "none" and signs:
            raise RequestError(f"a zero_pattern needs weights that can be 0, but got {', '.join(signs)} (signs)")

    def _check_transformer(self) -> None:
        object.__setattr__(self, "head_ratio", float(self.head_ratio))
        if not 0 <= self.head_ratio < 1:
            raise RequestError(f"0 <= head_ratio < 1 must hold, but got head_ratio={self.head_ratio}")
        whole_number("min_heads", self.min_heads)
        if self.sharing != "none" and self.init == "inherit":
            raise RequestError(
                "init='inherit' needs layers with weights of their own, as the teacher's have, "
                f"but got sharing={self.sharing!r}"
            )

    @property
    def settings(self) -> FamilySettings:
        """The settings of the candidate's family."""
        return family_settings(self.family, {name: getattr(self, name) for name in PUBLISHED})

    def _settle_stage_bits(self) -> None:
        """Stages of different bits have the widest as `weight_bits`; equal ones are no more than `weight_bits`.

        Where all have 8 bits no layer can be promoted, and none but the ends can share values.
        """
        stage_bits = self.quantization.stage_bits
        if not stage_bits:
            return
        if len(stage_bits) != len(self.depths):
            raise RequestError(
                f"stage_bits must have one entry per stage ({len(self.depths)}), but got stage_bits={stage_bits}"
            )
        object.__setattr__(self, "weight_bits", max(stage_bits))
        if len(set(stage_bits)) > 1:
            return
        settled = replace(self.quantization, stage_bits=())
        if self.weight_bits == END_BITS:
            settled = replace(settled, promoted_layers=0)
            if settled.weight_format == "codebook" and settled.end_bits == END_BITS:
                settled = replace(settled, weight_format="integer")
        object.__setattr__(self, "quantization", settled)

    @property
    def number_format(self) -> str:
        """The numbers that it computes with, in words; bits that are only simulated are called so."""
        return precision_in_words(self.weight_bits, self.activation_bits, self.quantization)

    def in_float32(self, round_to: int) -> Candidate:
        """The same shape without rounding or zeros. round_to: the step of the widths before, which must not change."""
        return replace(
            self,
            weight_bits=32,
            activation_bits=32,
            quantization=Quantization(),
            round_to=round_to,
            zero_pattern="none",
            zero_fraction=0.0,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        values = asdict(self)
        values["losses"] = [
            {"name": term.name, "weight": term.weight, "settings": dict(term.settings)} for term in self.losses
        ]
        values["depths"] = list(self.depths)
        values["quantization"]["stage_bits"] = list(self.quantization.stage_bits)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Candidate:
        """The candidate that `to_dict` described."""
        known = dict(values)
        known["losses"] = tuple(
            LossTerm(name=term["name"], weight=term["weight"], settings=term["settings"])
            for term in known.get("losses", ())
        )
        known["depths"] = tuple(known["depths"])
        known["teaching"] = Teaching(**known.get("teaching", {}))
        known["quantization"] = Quantization(**known.get("quantization", {}))
        return cls(**known)

    @property
    def control(self) -> str:
        """Which control of "what is pruned matters" this is, in words; empty where it is none.

        Inherited weights, a vote by chance, and a uniform width; after Liu et al. 2019 (arXiv 1810.05270) and Crowley
        et al. 2018 (arXiv 1810.04622).
        """
        voted = self.pruning_ratio > 0 and self.pruning_criterion != "uniform"
        uniform = not voted and self.head_ratio == 0
        shape = "uniform width" if uniform else "random vote" if self.pruning_criterion == "random" else ""
        inherited = "inherited weights" if self.init == "inherit" else ""
        started = "weights of a float training" if self.teaching.scheme == "fine_tuned" else ""
        return ", ".join(filter(None, [inherited, started, shape]))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that two candidates share only if they are equal."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
