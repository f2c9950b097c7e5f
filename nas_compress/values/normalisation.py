"""Mean and spread of an input, by which a network normalises it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Statistics of the training split in raw values.

    mean, std: numbers over all positions, or one number per entry of the first dimension of a sample (the channels of
    an image, the features of a table). std > 0. A single mean of an integer input is whole, so that an integer can
    represent it.
    prepare: name of the user's own module before the normalisation, empty without one. The statistics are behind it.
    """

    mean: int | float | tuple[float, ...]
    std: float | tuple[float, ...]
    prepare: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value: object = getattr(self, name)
            if isinstance(value, (list, tuple)):
                object.__setattr__(self, name, tuple(float(each) for each in value))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"mean": self.mean, "std": self.std, **({"prepare": self.prepare} if self.prepare else {})}
