"""Table of the data sets that ship; it needs no framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """One data set: content, source, and default augmentation of images (`shift`, `flip`).

    input_shape: of a sample; `T` is the number of word pieces of a text.
    mirrors: a mirrored image still shows its class; otherwise flip=True is refused.
    """

    summary: str
    source: str
    classes: int
    input_shape: tuple[int | str, ...]
    shift: int = 0
    flip: bool = False
    mirrors: bool = False

    @property
    def is_text(self) -> bool:
        """True for texts, which have no augmentation of images."""
        return self.input_shape == ("T",)


DATASETS: Mapping[str, DatasetInfo] = {
    "digits": DatasetInfo(
        summary="1,797 handwritten digits, 8x8 pixels with values 0-16, split 60/20/20",
        source="scikit-learn (UCI Optical Recognition of Handwritten Digits), installed with this package",
        classes=10,
        input_shape=(1, 8, 8),
        shift=1,
        flip=False,
        mirrors=False,
    ),
    "fashion-mnist": DatasetInfo(
        summary="70,000 articles of clothing, 28x28 pixels with values 0-255, split 54,000/6,000/10,000",
        source="Zalando (Xiao et al. 2017, arXiv 1708.07747), read from disk or downloaded (30 MB)",
        classes=10,
        input_shape=(1, 28, 28),
        shift=1,
        flip=True,
        mirrors=True,
    ),
    "sst2": DatasetInfo(
        summary="9,613 sentences of film reviews, positive or negative, split 6,920/872/1,821; needs the extra [text]",
        source="Stanford Sentiment Treebank (Socher et al. 2013), CSV files read from NAS_COMPRESS_DATA",
        classes=2,
        input_shape=("T",),
    ),
}
"""Data sets by name."""
