"""The augmentation of a study in words, for bundles and reports; it needs no framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas_compress.data.catalogue import DATASETS

KEYS = ("augment", "crop", "shift", "flip", "erase", "spec_augment", "mixup", "cutmix", "views")
"""Keys of `[data]`, in the order of their application."""


def augmentation_words(data: Mapping[str, Any]) -> str:
    """Return the keys of `[data]` that change training samples, with their values; empty if there are none.

    data: the section as plain values.

    >>> augmentation_words({"name": "fashion-mnist", "shift": None, "flip": None, "crop": 0.5, "views": 4})
    'crop 0.5, shift 1, flip, views 4'
    """
    info = DATASETS.get(data.get("name") or "")
    defaults = {} if info is None else {"shift": info.shift, "flip": info.flip}
    values = {key: defaults.get(key) if data.get(key) is None else data[key] for key in KEYS}
    return ", ".join(_shown(key, value) for key, value in values.items() if value)


def _shown(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{key} ({', '.join(f'{name} {each}' for name, each in value.items())})"
    return key if value is True else f"{key} {value}"
