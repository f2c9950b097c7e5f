"""Bit widths of a student, their valid combinations, and the ways of rounding."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from nas_compress.errors import RequestError, require_known

WEIGHT_BITS = (32, 16, 8, 6, 5, 4, 3, 2, 1)
"""Bits of a weight. 32 and 16 are floats, 8 and fewer integers with a scale per output channel, 1 is the sign alone."""

ACTIVATION_BITS = (32, 8, 4)
"""Bits of the tensors between layers. 32 is float; 4 are simulated, because the runtime has no kernel for them."""

WEIGHT_FORMATS = ("integer", "float8", "codebook")
"""Meaning of a weight's bits: an integer; at 8 bits a float of 4 exponent and 3 mantissa bits (e4m3); at 6 and fewer an
index into the layer's shared values (Han et al. 2016, arXiv 1510.00149)."""

END_BITS = 8
"""Bits of the first and the last layer, because they are small and sensitive (Esser et al. 2020)."""

METHODS = {
    "calibrate": "after training, from the weights and from samples (Jacob et al. 2018, arXiv 1712.05877)",
    "lsq": "in training, with learned steps (Esser et al. 2020, arXiv 1902.08153); one bit by sign and mean magnitude "
    "(Rastegari et al. 2016, arXiv 1603.05279)",
    "ste": "in training, with ranges by smallest and largest value (Jacob et al. 2018, arXiv 1712.05877)",
}
"""Ways of rounding."""

DYNAMIC = "dynamic"
"""The file finds the range of each tensor while it runs."""

RANGES = ("min_max", "percentile", "mse", DYNAMIC)
"""Ways to choose the range of a tensor: in calibration, or in the file for each call."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """Rounding of a student with few bits.

    method: one of METHODS. Methods in training round over the last quarter of the epochs.
    ranges: one of RANGES, for the calibration of activations or the start of their training; `mse` chooses the scales
        of weights too; `dynamic` leaves the ranges to the file (8 bits, families `encoder` and `vit`).
        Default `min_max` for `calibrate`, else `mse`.
    weight_format: one of WEIGHT_FORMATS.
    stage_bits: weight bits of each stage, instead of one width for all.
    end_bits: bits of the first layer and the classifier, if the others have 8 or fewer.
    embedding_bits: bits of tables that are looked up (tokens, positions), if the others have 8 or fewer; None for those
        of the others.
    promoted_layers: number of other layers with 8 bits, the most sensitive ones of the teacher.
    """

    method: str = "calibrate"
    ranges: str = ""
    weight_format: str = "integer"
    stage_bits: tuple[int, ...] = ()
    end_bits: int = END_BITS
    promoted_layers: int = 0
    embedding_bits: int | None = None

    def __post_init__(self) -> None:
        stages: object = self.stage_bits  # a user may give anything
        if not isinstance(stages, tuple | list):
            raise RequestError(f"stage_bits must be a tuple of one width per stage, but got stage_bits={stages!r}")
        object.__setattr__(self, "stage_bits", tuple(stages))
        narrow = [bits for bits in WEIGHT_BITS if bits <= END_BITS]
        tables = () if self.embedding_bits is None else (self.embedding_bits,)
        for name, values in (
            ("stage_bits", self.stage_bits),
            ("end_bits", (self.end_bits,)),
            ("embedding_bits", tables),
        ):
            if any(not _is_whole(bits) or bits not in narrow for bits in values):
                got = getattr(self, name)
                raise RequestError(f"{name} must be among {', '.join(map(str, narrow))}, but got {name}={got!r}")
        if not _is_whole(self.promoted_layers):
            raise RequestError(
                f"promoted_layers must be a whole number, but got promoted_layers={self.promoted_layers!r}"
            )
        if self.promoted_layers < 0:
            raise RequestError(f"promoted_layers >= 0 must hold, but got promoted_layers={self.promoted_layers}")
        require_known("a quantization method", self.method, METHODS)
        if self.ranges == "":
            # one form for each value: equal candidates share a fingerprint
            object.__setattr__(self, "ranges", "mse" if self.is_trained else "min_max")
        require_known("ranges", self.ranges, RANGES)
        require_known("weight_format", self.weight_format, WEIGHT_FORMATS)

    @property
    def is_trained(self) -> bool:
        """True if the student learns under rounding."""
        return self.method != "calibrate"

    def stage_widths(self, weight_bits: int) -> tuple[int, ...]:
        """Weight bits of each stage, or the single width of all."""
        return self.stage_bits or (weight_bits,)


FLOAT32 = "float32"
"""Number format of a file without few bits."""

_SHARE = re.compile(r", \d+ % of (?:them|the weights) float32$")


def _is_whole(value: object) -> bool:
    """Return True for an int; False for True, 4.0 and "4"."""
    return type(value) is int


SIMULATED = "4-bit activations simulated"
"""Note on files with fewer activation bits than any kernel of the runtime."""


def precision_in_words(weight_bits: int, activation_bits: int, quantization: Quantization | None = None) -> str:
    """Name the number format of a file; its first, last and promoted layers may have 8 bits.

    "weights" marks few bits in the weights alone: the file computes in floats.

    >>> [precision_in_words(*bits) for bits in ((32, 32), (16, 32), (8, 32), (8, 8), (1, 8), (4, 4))]
    ['float32', 'float16 weights', 'int8 weights', 'int8', 'binary', 'int4, 4-bit activations simulated']
    >>> precision_in_words(8, 32, Quantization(stage_bits=(8, 2, 4)))
    'int2 to int8 weights'
    >>> precision_in_words(5, 8, Quantization(embedding_bits=4))
    'int4 to int5'
    >>> precision_in_words(3, 8, Quantization(weight_format="codebook"))
    '3-bit codebook'
    """
    if weight_bits == 32:
        return FLOAT32
    chosen = quantization or Quantization()
    tables = () if chosen.embedding_bits is None else (chosen.embedding_bits,)
    widths = sorted({*chosen.stage_widths(weight_bits), *tables})
    words = " to ".join(dict.fromkeys(_kind(bits, chosen.weight_format) for bits in (widths[0], widths[-1])))
    if activation_bits == 32:
        return f"{words} weights"
    return words if activation_bits == 8 else f"{words}, {SIMULATED}"


def with_float32(words: str, fraction: float) -> str:
    """Add the share of weights in 32-bit floats to a number format of few bits.

    fraction: of all weights; at least 1 % is written if it is above 0.

    >>> with_float32("int2 weights", 0.312), with_float32("int8", 0.001), with_float32("float32", 1.0)
    ('int2 weights, 31 % of them float32', 'int8, 1 % of the weights float32', 'float32')
    """
    if words == FLOAT32 or fraction <= 0:
        return words
    whole = "them" if words.endswith("weights") else "the weights"
    return f"{words}, {max(1, round(100 * fraction))} % of {whole} float32"


def without_float32(words: str) -> str:
    """Return a number format without the addition of `with_float32`.

    >>> without_float32("int2 weights, 31 % of them float32"), without_float32("int8")
    ('int2 weights', 'int8')
    """
    return _SHARE.sub("", words)


def _kind(bits: int, weight_format: str) -> str:
    if bits == 16 or weight_format == "float8":
        return "float16" if bits == 16 else "float8"
    if weight_format == "codebook" and bits < END_BITS:
        return f"{bits}-bit codebook"
    return "binary" if bits == 1 else f"int{bits}"


def precisions() -> tuple[tuple[int, int], ...]:
    """Every valid pair of weight and activation bits."""
    return tuple(
        (weights, values) for weights in WEIGHT_BITS for values in ACTIVATION_BITS if values == 32 or weights <= 8
    )


def check_bits(weight_bits: int, activation_bits: int, quantization: Quantization | None = None) -> None:
    """Raise RequestError for unknown bits, or bits that fit neither each other nor the quantization."""
    for name, bits, known in (
        ("weight_bits", weight_bits, WEIGHT_BITS),
        ("activation_bits", activation_bits, ACTIVATION_BITS),
    ):
        if not _is_whole(bits) or bits not in known:
            raise RequestError(f"{name} must be one of {', '.join(map(str, known))}, but got {name}={bits!r}")
    if activation_bits < 32 and weight_bits > 8:
        raise RequestError(
            "weight_bits <= 8 must hold if activation_bits < 32 (integer kernels need integer weights), "
            f"but got {weight_bits=}, {activation_bits=}"
        )
    if quantization is None:
        return
    if quantization.ranges == DYNAMIC and activation_bits == 4:
        raise RequestError(
            "activation_bits=8 must hold for ranges='dynamic', because the runtime finds ranges of 8 bits only, "
            f"but got {activation_bits=}"
        )
    float8 = quantization.weight_format == "float8"
    if float8 and (weight_bits, activation_bits, quantization.is_trained) != (8, 32, False):
        raise RequestError(
            "weight_bits=8, activation_bits=32 and method='calibrate' must hold for weight_format='float8', "
            f"but got {weight_bits=}, {activation_bits=}, method={quantization.method!r}"
        )
    if quantization.embedding_bits is not None and (weight_bits > END_BITS or float8):
        raise RequestError(
            f"weight_bits <= {END_BITS} and another weight_format than float8 must hold if embedding_bits is given, "
            f"but got {weight_bits=}, weight_format={quantization.weight_format!r}, "
            f"embedding_bits={quantization.embedding_bits}"
        )
    if float8 and (quantization.stage_bits or quantization.end_bits != END_BITS):
        raise RequestError(
            f"stage_bits=() and end_bits={END_BITS} must hold for weight_format='float8', which has 8 bits everywhere, "
            f"but got stage_bits={quantization.stage_bits}, end_bits={quantization.end_bits}"
        )
    narrowest = min(quantization.stage_widths(weight_bits))
    shares = weight_bits <= END_BITS and min(narrowest, quantization.end_bits) < END_BITS
    if quantization.weight_format == "codebook" and not shares:
        raise RequestError(
            f"weight_bits < {END_BITS} must hold for weight_format='codebook' (8-bit integers are finer than 256 "
            f"shared values), but got {weight_bits=}"
        )
    if quantization.promoted_layers and narrowest >= END_BITS:
        raise RequestError(
            f"weight_bits < {END_BITS} must hold if promoted_layers > 0, but got {weight_bits=}, "
            f"promoted_layers={quantization.promoted_layers}"
        )
    if quantization.is_trained and weight_bits > 8:
        raise RequestError(
            f"weight_bits <= 8 must hold for method={quantization.method!r} (floats need no learned rounding), "
            f"but got {weight_bits=}"
        )


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Bits of a student's weights and activations, and their rounding.

    `weight_bits` is the widest of stages of different bits. Stages of equal bits become one width for all; if it is 8,
    no layer can be promoted and only the ends can share values.
    """

    weight_bits: int = 32
    activation_bits: int = 32
    quantization: Quantization = field(default_factory=Quantization)

    def __post_init__(self) -> None:
        given: object = self.quantization
        if not isinstance(given, Quantization):
            raise RequestError(f"quantization must be a Quantization, but got quantization={given!r}")
        self._settle_stage_bits()
        check_bits(self.weight_bits, self.activation_bits, self.quantization)
        self._settle_ranges()
        if self.quantization.embedding_bits == self.weight_bits and not self.quantization.stage_bits:
            object.__setattr__(self, "quantization", replace(self.quantization, embedding_bits=None))

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Weight bits of each stage, or the single width of all."""
        return self.quantization.stage_widths(self.weight_bits)

    @property
    def number_format(self) -> str:
        """Name of the file's number format, with a note on simulated bits."""
        return precision_in_words(self.weight_bits, self.activation_bits, self.quantization)

    @property
    def sign_layers(self) -> tuple[str, ...]:
        """Settings with sign-only weights, for an error text; signs cannot be zero. Shared values can."""
        chosen = self.quantization
        if chosen.weight_format == "codebook":
            return ()
        settings = (
            ("weight_bits", self.weight_bits, self.weight_bits == 1),
            ("stage_bits", chosen.stage_bits, 1 in chosen.stage_bits),
            ("end_bits", chosen.end_bits, chosen.end_bits == 1 and self.weight_bits <= END_BITS),
            ("embedding_bits", chosen.embedding_bits, chosen.embedding_bits == 1),
        )
        return tuple(f"{name}={value}" for name, value, has_signs in settings if has_signs)

    def _settle_stage_bits(self) -> None:
        stage_bits = self.quantization.stage_bits
        if not stage_bits:
            return
        object.__setattr__(self, "weight_bits", max(stage_bits))
        if len(set(stage_bits)) > 1:
            return
        settled = replace(self.quantization, stage_bits=())
        if self.weight_bits == END_BITS:
            settled = replace(settled, promoted_layers=0)
            if settled.weight_format == "codebook" and settled.end_bits == END_BITS:
                settled = replace(settled, weight_format="integer")
        object.__setattr__(self, "quantization", settled)

    def _settle_ranges(self) -> None:
        """Reset `ranges` to its default without activation bits, unless it scales the weights."""
        chosen = self.quantization
        fixed = chosen.is_trained or self.weight_bits > END_BITS or chosen.weight_format == "float8"
        if self.activation_bits == 32 and (fixed or chosen.ranges in ("percentile", DYNAMIC)):
            object.__setattr__(self, "quantization", replace(chosen, ranges=""))
