"""Import of a user's functions, named `module:callable` in a study file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from nas_compress.errors import describe, nearest, refusal


@contextmanager
def user_callable(
    reference: str, *, folder: Path | None, where: str, role: str = "factory"
) -> Iterator[Callable[..., object]]:
    """Import `module:callable`. Call it inside the block only, because sys.path is restored afterwards.

    The module is searched in `folder`, then among installed modules, then in the working folder.
    RequestError with one line if the reference is wrong. where: file and key for the message. role: its subject.
    """
    module, _, name = reference.partition(":")
    if not _is_valid(module, name):
        raise refusal(f"{role} must be 'module:callable', but got {reference!r}", where)
    with _importable(folder, module):
        yield _attribute(module, name, folder, where, role)


def module_file(reference: str, *, folder: Path | None) -> Path | None:
    """Return the file of the module that `user_callable` would import, without importing anything.

    None if there is none, or if it has no file of its own.
    """
    module, _, name = reference.partition(":")
    if not _is_valid(module, name):
        return None
    importlib.invalidate_caches()
    places: list[str] | None = sys.path if folder is None else _places(folder)
    file, parts = None, module.split(".")
    for depth in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:depth]), places)
        if spec is None:
            return None
        file, places = spec.origin, list(spec.submodule_search_locations or ())
    return None if file is None else Path(file)


def _is_valid(module: str, name: str) -> bool:
    return all(part.isidentifier() for part in (*module.split("."), name))


def _places(folder: Path) -> list[str]:
    """Folders of modules in the order of the search: the given one, installed modules, the working folder."""
    return [str(folder.resolve()), *sys.path, str(Path.cwd())]


@contextmanager
def _importable(folder: Path | None, module: str) -> Iterator[None]:
    """Put the folder first and the working folder last on sys.path.

    A module of the same name from another place is removed from sys.modules.
    """
    if folder is None:
        yield
        return
    before = list(sys.path)
    _forget_foreign(module.partition(".")[0], folder)
    sys.path[:] = _places(folder)
    try:
        yield
    finally:
        sys.path[:] = before


def _forget_foreign(top: str, folder: Path) -> None:
    """Remove a loaded module if the search finds another file for its name."""
    loaded = getattr(sys.modules.get(top), "__file__", None)
    found = module_file(f"{top}:x", folder=folder)
    if loaded is None or found is None or Path(loaded).resolve() == found.resolve():
        return
    for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
        del sys.modules[name]


def _attribute(module: str, name: str, folder: Path | None, where: str, role: str) -> Callable[..., object]:
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        place = _searched(folder) if isinstance(error, ModuleNotFoundError) and error.name == module else ""
        raise refusal(
            f"{role} must name an importable module, but {module!r} raised {describe(error)}{place}", where
        ) from error
    if not hasattr(loaded, name):
        hint = nearest(name, _functions(loaded))
        raise refusal(f"{role} must name a callable of {module!r}, but it has no {name!r}{hint}", where)
    found: object = getattr(loaded, name)
    if not callable(found):
        raise refusal(f"{role} must name a callable, but {module}:{name} is {type(found).__name__}", where)
    return found


def _searched(folder: Path | None) -> str:
    """Name the places of a search without a result."""
    if folder is None:
        return ""
    first, last = folder.resolve(), Path.cwd()
    return f"; searched in {first}, among the installed packages" + (f" and in {last}" if last != first else "")


def _functions(module: ModuleType) -> list[str]:
    own = {name: value for name, value in vars(module).items() if callable(value)}
    return [name for name, value in own.items() if getattr(value, "__module__", None) == module.__name__]
