"""One call for any data set: by name from the table, or from the user's own module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from nas_compress.data.assemble import Parts, assemble
from nas_compress.data.augmentation import ShiftAndFlip
from nas_compress.data.catalogue import DATASETS, DatasetInfo
from nas_compress.data.dataset import Dataset
from nas_compress.data.digits import read_digits
from nas_compress.data.fashion_mnist import read_fashion_mnist
from nas_compress.data.stratified_split import stratified_split
from nas_compress.data.user_data import read_factory
from nas_compress.errors import refusal, require_known

__all__ = ["DATASETS", "READERS", "DatasetInfo", "load_dataset", "stratified_split"]

READERS: Mapping[str, Callable[[int], Parts]] = {
    "digits": read_digits,
    "fashion-mnist": read_fashion_mnist,
}
"""How each data set of the table is read and divided, given a seed."""


def load_dataset(
    *,
    name: str | None = None,
    factory: str | None = None,
    folder: Path | None = None,
    seed: int = 0,
    shift: int | None = None,
    flip: bool | None = None,
    train_samples: int | None = None,
    where: str = "",
) -> Dataset:
    """Load one data set, divided by `seed`, its training split cut to a stratified `train_samples` if given.

    Exactly one of `name` (a key of DATASETS) and `factory` ("module:callable", imported with `folder` first
    on sys.path) must be given. `shift` and `flip` set the augmentation; None takes the data set's own, for a factory
    0 and False. The callable takes no arguments and returns a mapping with train, test and perhaps validation
    (else 15 % of train), each a pair (inputs uint8 (N, C, H, W) or (N, H, W), integer labels (N,)) or a
    map-style torch Dataset of (sample, label).

    Raises RequestError of one line, ending in `where`, for what cannot be used; RunError where files can
    neither be found nor downloaded.
    """
    if (name is None) == (factory is None):
        raise refusal(f"exactly one of name and factory must be given, but got {name=} and {factory=}", where)
    if seed < 0:
        raise refusal(f"seed >= 0 must hold, but got seed={seed}", where)
    if name is not None:
        require_known("a data set", name, DATASETS, where)
        augmentation = _augmentation_of(name, shift, flip, where)
        parts = READERS[name](seed)
    else:
        augmentation = _augmentation(shift or 0, bool(flip), where)
        parts = read_factory(str(factory), folder=folder, seed=seed, where=where)
    return assemble(parts, augmentation=augmentation, train_samples=train_samples, seed=seed, where=where)


def _augmentation_of(name: str, shift: int | None, flip: bool | None, where: str) -> ShiftAndFlip:
    info = DATASETS[name]
    if flip and not info.mirrors:
        raise refusal(f"flip must be false for {name} (a mirrored image is another or no class), but got true", where)
    return _augmentation(info.shift if shift is None else shift, info.flip if flip is None else flip, where)


def _augmentation(shift: int, flip: bool, where: str) -> ShiftAndFlip:
    if shift < 0:
        raise refusal(f"shift >= 0 must hold, but got shift={shift}", where)
    return ShiftAndFlip(shift=shift, flip=flip)
