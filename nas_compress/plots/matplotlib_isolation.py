"""Matplotlib without influence of the surroundings: its variables and settings files change no picture."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType


def import_matplotlib() -> ModuleType:
    """Import matplotlib, even if MPLBACKEND names a backend that is not installed or a settings file is damaged.

    A notebook sets MPLBACKEND for every process that it starts. A valid one is kept for the caller's own figures.
    """
    if "matplotlib" in sys.modules:
        return sys.modules["matplotlib"]
    with _variable("MPLBACKEND", None):
        try:
            matplotlib = importlib.import_module("matplotlib")
        except (OSError, ValueError):
            matplotlib = _import_without_settings()
    backend = os.environ.get("MPLBACKEND")
    if backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend
    return matplotlib


@contextlib.contextmanager
def default_settings() -> Iterator[None]:
    """Draw and save inside with matplotlib's own settings; as a decorator, it holds for the whole function."""
    matplotlib = import_matplotlib()
    defaults, current = matplotlib.rcParamsDefault, matplotlib.rcParams
    names = [name for name in defaults if name != "backend"]  # reading the current backend would choose one
    with matplotlib.rc_context({name: defaults[name] for name in names if current[name] != defaults[name]}):
        yield


def _import_without_settings() -> ModuleType:
    """Import matplotlib with the settings file of its package; it reads one in the working folder first."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[name]
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'matplotlib'")
    data = Path(spec.origin).parent / "mpl-data"
    with contextlib.chdir(data), _variable("MATPLOTLIBRC", str(data)):
        return importlib.import_module("matplotlib")


@contextlib.contextmanager
def _variable(name: str, value: str | None) -> Iterator[None]:
    """Set an environment variable inside, or remove it if `value` is None."""
    before = os.environ.get(name)
    _set(name, value)
    try:
        yield
    finally:
        _set(name, before)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
