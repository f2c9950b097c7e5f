"""The bit-widths that a student may have, and which of them go together."""

from __future__ import annotations

from nas_compress.errors import RequestError, require_known

WEIGHT_BITS = (32, 16, 8, 6, 5, 4, 3, 2, 1)
"""Bits of a weight. 32 and 16 are floats, 8 and fewer integers with a scale per output channel, 1 is the sign alone."""

ACTIVATION_BITS = (32, 8)
"""Bits of the tensors between layers. 32 is float."""

WEIGHT_FORMATS = ("integer", "float8")
"""What 8 bits of a weight mean: an integer, or a float of 4 exponent and 3 mantissa bits (e4m3)."""

END_BITS = 8
"""The first and the last layer keep at least this many bits: they are small and sensitive (Esser et al. 2020)."""


def precisions() -> tuple[tuple[int, int], ...]:
    """Every pair of weight and activation bits that `check_bits` accepts."""
    return tuple(
        (weights, values) for weights in WEIGHT_BITS for values in ACTIVATION_BITS if values == 32 or weights <= 8
    )


def check_bits(weight_bits: int, activation_bits: int, weight_format: str = "integer") -> None:
    """Raise RequestError for bits that do not exist or do not go together."""
    for name, bits, known in (
        ("weight_bits", weight_bits, WEIGHT_BITS),
        ("activation_bits", activation_bits, ACTIVATION_BITS),
    ):
        if bits not in known:
            raise RequestError(f"{name} must be one of {', '.join(map(str, known))}, but got {name}={bits}")
    require_known("weight_format", weight_format, WEIGHT_FORMATS)
    if activation_bits < 32 and (weight_bits > 8 or weight_format != "integer"):
        raise RequestError(
            "weight_bits <= 8 and weight_format='integer' must hold where activation_bits < 32 (integer kernels need "
            f"integer weights), but got {weight_bits=}, {activation_bits=}, {weight_format=}"
        )
    if weight_format == "float8" and weight_bits != 8:
        raise RequestError(f"weight_bits=8 must hold for weight_format='float8', but got {weight_bits=}")
