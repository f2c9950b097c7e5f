"""Files of weights: the file, its kind and its tensors, read without running code of it."""

from __future__ import annotations

import argparse
import pathlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from nas_compress.errors import RequestError, describe

_SCALAR = np.float64(0).__reduce__()[0]
HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")),
    *((_SCALAR, f"numpy.{package}.multiarray.scalar") for package in ("_core", "core")),
    *(
        (pathlib.PurePath, f"{place}.{kind}Path")
        for place in ("pathlib", "pathlib._local")
        for kind in ("Posix", "Windows")
    ),
]
"""Types of options and figures that training scripts save next to weights. Building them runs no code of the file."""


def find_weights(folder: Path, weights: str, label: str) -> Path:
    """Return the path of the weights, searched in `folder` and then in the working folder, as modules are."""
    first, last = folder / weights, Path.cwd() / weights
    for path in (first, last):
        if path.is_file():
            return path
    also = "" if last.resolve() == first.resolve() else f" and neither is {last}"
    raise RequestError(f"{label}: teacher.weights must be a file, but {first} is none{also}")


def is_torchscript(path: Path) -> bool:
    """True if a file is a program of `torch.jit.save`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def read_checkpoint(path: Path, label: str) -> Mapping[Any, Any]:
    """Read a mapping of tensors and plain values.

    RequestError for another file, and for a pickle with objects of other types: loading them would run code.
    """
    rule = f"{label}: teacher.weights must hold a state dict, but {path}"
    if is_torchscript(path):
        raise RequestError(f"{rule} is a TorchScript program; save the state dict of the module that it was made from")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except UnpicklingError as error:  # its text recommends weights_only=False, which would run code of the file
        raise RequestError(f"{rule} {_refused(str(error))}") from error
    except Exception as error:  # both raise many types for other files
        raise RequestError(f"{rule} does not: {describe(error)}") from error
    if not isinstance(state, Mapping):
        raise RequestError(f"{rule} holds a {type(state).__name__}")
    return state


def _refused(reason: str) -> str:
    named = re.search(r"GLOBAL ([\w.]+)", reason)
    way = "load it where it was made and save its state dict: torch.save(model.state_dict(), ...)"
    if named is None:
        return f"holds code or other objects than tensors, or is damaged; {way}"
    return f"holds a pickled object, {named[1]}, and loading it would run code; {way}"


def _unpickled(path: Path) -> Any:
    """Read tensors and plain values from a pickle; any other object in it is an UnpicklingError."""
    with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
        warnings.simplefilter("ignore")  # about other versions of pickle: the error that follows is enough
        return torch.load(path, "cpu", weights_only=True)
