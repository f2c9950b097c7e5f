"""The user's own functions, named `module:callable` in a study file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from nas_compress.errors import describe, nearest, refusal


@contextmanager
def user_callable(reference: str, *, folder: Path | None, where: str) -> Iterator[Callable[[], object]]:
    """Import `module:callable`; call it inside the block, while `folder` stands first on sys.path.

    RequestError says in one line what is wrong with the reference.
    """
    module, _, name = reference.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise refusal(f"factory must be 'module:callable', but got {reference!r}", where)
    with _importable(folder, module):
        yield _attribute(module, name, where)


@contextmanager
def _importable(folder: Path | None, module: str) -> Iterator[None]:
    """Put the folder first on sys.path, and forget a module of the same name that another folder gave."""
    if folder is None:
        yield
        return
    entry = str(folder.resolve())
    _forget_foreign(module.partition(".")[0], Path(entry))
    importlib.invalidate_caches()
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def _forget_foreign(top: str, folder: Path) -> None:
    loaded = getattr(sys.modules.get(top), "__file__", None)
    here = (folder / f"{top}.py").is_file() or (folder / top).is_dir()
    if not here or loaded is None or Path(loaded).resolve().is_relative_to(folder):
        return
    for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
        del sys.modules[name]


def _attribute(module: str, name: str, where: str) -> Callable[[], object]:
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        raise refusal(
            f"factory must name an importable module, but {module!r} raised {describe(error)}", where
        ) from error
    if not hasattr(loaded, name):
        hint = nearest(name, _functions(loaded))
        raise refusal(f"factory must name a callable of {module!r}, but it has no {name!r}{hint}", where)
    found: object = getattr(loaded, name)
    if not callable(found):
        raise refusal(f"factory must name a callable, but {module}:{name} is {type(found).__name__}", where)
    return found


def _functions(module: ModuleType) -> list[str]:
    own = {name: value for name, value in vars(module).items() if callable(value)}
    return [name for name, value in own.items() if getattr(value, "__module__", None) == module.__name__]
