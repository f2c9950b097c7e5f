"""Spectrogram of a sound on the mel scale: its settings, and the tables that files make from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import RequestError

FULL_SCALE = 32_768
"""Sample of 16 bits that counts as 1."""

FLOOR = 1e-8
"""Power added before the logarithm: 80 dB below a sine of full scale, so that silence has a finite value."""

WINDOW_S = 0.032
"""Seconds of a window, about: its number of samples is the nearest power of 2."""

LARGEST = 8_192
"""Samples of the largest window, which a file has at 192,000 samples per second."""

SLOWEST, FASTEST = 1_000, 192_000
"""Sampling rates, in samples per second."""


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Settings of a logarithmic mel spectrogram (bands, frames) of 16-bit samples.

    rate: samples per second. window, hop: samples of a frame, and from one frame to the next. bands: mel bands, from 0
    Hz to half the rate. A frame is whole: there is no padding at the ends. A sine of full scale has power 1.

    >>> LogMel.at_rate(8_000).frames(8_000)
    61
    """

    rate: int
    window: int
    hop: int
    bands: int

    def __post_init__(self) -> None:
        if not SLOWEST <= self.rate <= FASTEST:
            raise RequestError(f"{SLOWEST} <= sampling rate <= {FASTEST} must hold, but got {self.rate}")
        if not 4 <= self.window <= LARGEST or not 1 <= self.hop <= self.window or not 1 <= self.bands <= self.window:
            got = f"window={self.window}, hop={self.hop}, bands={self.bands}"
            rule = f"4 <= window <= {LARGEST}, 1 <= hop <= window and 1 <= bands <= window must hold"
            raise RequestError(f"{rule}, but got {got}")
        if not self.filters().any(axis=1).all():
            most = next(fewer for fewer in range(self.bands - 1, 0, -1) if _filters(self, fewer).any(axis=1).all())
            rule = f"mels <= {most} must hold at {self.rate} samples per second"
            raise RequestError(f"{rule}, because a band needs a frequency of its own, but got mels={self.bands}")

    @classmethod
    def at_rate(cls, rate: int, *, bands: int = 32) -> LogMel:
        """Settings with a window of about WINDOW_S seconds, half of which is the hop."""
        window: int = 2 ** max(2, round(math.log2(WINDOW_S * max(1, rate))))
        return cls(rate=rate, window=window, hop=window // 2, bands=bands)

    @property
    def bins(self) -> int:
        """Number of frequencies of the Fourier transform."""
        return self.window // 2 + 1

    @property
    def step(self) -> float:
        """Hz from one frequency to the next."""
        return self.rate / self.window

    def frames(self, samples: int) -> int:
        """Number of frames of a sound; RequestError if it is shorter than a window."""
        if samples < self.window:
            raise RequestError(f"a sound must have {self.window} samples (a window) or more, but got {samples}")
        return 1 + (samples - self.window) // self.hop

    def edges(self) -> NDArray[np.float32]:
        """Return lower end, centre and upper end of all bands in Hz: band b has the entries b, b + 1 and b + 2."""
        return _edges(self.rate, self.bands)

    def filters(self) -> NDArray[np.float64]:
        """Return the triangle of each band over the frequencies, (bands, bins), with the height 1."""
        return _filters(self, self.bands)

    def kernels(self) -> NDArray[np.float64]:
        """Return cosines, then sines of each frequency under a Hann window, (2 * bins, window), for 16-bit samples."""
        places = np.arange(self.window)
        angles = np.arange(self.bins)[:, None] * places % self.window * (2 * np.pi / self.window)
        hann = (0.5 - 0.5 * np.cos(2 * np.pi / self.window * places)) * self.factor
        return np.concatenate([np.cos(angles) * hann, np.sin(angles) * hann])

    @property
    def factor(self) -> float:
        """Factor of the window by which a sine of full scale gets power 1: a Hann window has the sum window / 2."""
        return 4 / (self.window * FULL_SCALE)

    def to_dict(self) -> dict[str, int]:
        """Plain values; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LogMel:
        """The inverse of `to_dict`."""
        return cls(**{name: int(values[name]) for name in ("rate", "window", "hop", "bands")})

    def metadata(self) -> dict[str, str]:
        """The settings as texts by name, for a model file."""
        return {"log_mel": f"{self.rate} {self.window} {self.hop} {self.bands}"}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> LogMel:
        """Read what `metadata` wrote into a model file; RequestError if it is something else."""
        try:
            rate, window, hop, bands = map(int, metadata["log_mel"].split())
        except ValueError as error:
            raise RequestError(f"settings of sounds in a file must be four numbers, but got {error}") from error
        return cls(rate=rate, window=window, hop=hop, bands=bands)


def _edges(rate: int, bands: int) -> NDArray[np.float32]:
    # the scale of HTK: 1,127 ln(1 + f / 700)
    highest = math.log1p(rate / 2 / 700)
    return (700 * np.expm1(np.linspace(0, highest, bands + 2))).astype(np.float32)


def _filters(settings: LogMel, bands: int) -> NDArray[np.float64]:
    edges = _edges(settings.rate, bands).astype(np.float64)[:, None]
    frequencies = np.arange(settings.bins) * settings.step
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling))
