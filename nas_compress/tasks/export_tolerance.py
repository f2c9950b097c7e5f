"""Limits on the difference between the outputs of an exported file and of its module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import ExportError
from nas_compress.tasks.batch import Arrays, largest_difference

Rounding = Literal["none", "integers", "few_bits"]
"""Activations of a file: floats, 8-bit integers, or fewer simulated bits."""

FLOAT_DIFFERENCE = 1e-3
"""Tolerance of float files: this fraction of the largest output, and at least this much.

They differ by the order of additions only.
"""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The result of a comparison.

    agreement: fraction of samples with the same answer. max_difference: largest difference of any output.
    """

    agreement: float
    max_difference: float


def compared(
    agrees: NDArray[np.bool_],
    found: Arrays,
    expected: Arrays,
    *,
    least: Mapping[Rounding, float],
    rounding: Rounding,
    name: str,
) -> Agreement:
    """Return the agreement of outputs, and require it; without rounding, every number must agree too.

    agrees: True for each equal answer. least: smallest fraction of equal answers. name: the file, for the error text.
    """
    result = Agreement(agreement=float(agrees.mean()), max_difference=largest_difference(found, expected))
    largest = max(1.0, *(float(np.abs(values).max()) for values in expected.values()))
    difference = FLOAT_DIFFERENCE * largest if rounding == "none" else np.inf
    require_agreement(result, agreement=least[rounding], difference=difference, name=name)
    return result


def require_agreement(found: Agreement, *, agreement: float, difference: float, name: str) -> None:
    """Raise ExportError for a lower agreement or a larger difference. `name`: the file, for the error text."""
    # Written so that a comparison with nan fails too.
    if not (found.agreement >= agreement and found.max_difference <= difference):
        raise ExportError(
            f"agreement >= {agreement} and max_difference <= {difference:.3g} must hold, but got "
            f"{found.agreement:.4f} and {found.max_difference:.3g} ({name})"
        )
