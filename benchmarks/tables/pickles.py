"""Reading of pickled tables: plain values, numpy scalars and records of attributes, nothing else is made."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from pathlib import Path

import numpy as np


class _Plain(pickle.Unpickler):
    """An unpickler that refuses every class except numpy scalars and the named records."""

    records: Collection[tuple[str, str]] = ()

    def find_class(self, module: str, name: str) -> object:
        """Return the function of a numpy scalar, numpy's type of it, or an empty class for a record."""
        if name == "scalar" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.float64(0).__reduce__()[0]
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if (module, name) in self.records:
            return type(name, (), {})
        raise pickle.UnpicklingError(f"a table holds numbers only, but this file asks for {module}.{name}")


def read_plain(path: Path, *, records: Collection[tuple[str, str]] = ()) -> object:
    """Return the content of a pickle. records: (module, name) of classes that are read as bare attributes."""
    with path.open("rb") as handle:
        reader = _Plain(handle)
        reader.records = records
        return reader.load()
