"""Import of a user's functions, named `module:callable` in a study file."""

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
    """Import `module:callable`. Call it inside the block only, because sys.path is restored afterwards.

    The module is searched in `folder`, then among installed modules, then in the working folder.
    RequestError with one line if the reference is wrong. where: file and key for the message.
    """
    module, _, name = reference.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise refusal(f"factory must be 'module:callable', but got {reference!r}", where)
    with _importable(folder, module):
        yield _attribute(module, name, where)


@contextmanager
def _importable(folder: Path | None, module: str) -> Iterator[None]:
    """Put the folder first and the working folder last on sys.path.

    A module of the same name from another folder is removed from sys.modules.
    """
    if folder is None:
        yield
        return
    first, last = folder.resolve(), Path.cwd()
    top = module.partition(".")[0]
    home = next((place for place in (first, last) if (place / f"{top}.py").is_file() or (place / top).is_dir()), None)
    if home is not None:
        _forget_foreign(top, home)
    importlib.invalidate_caches()
    before = list(sys.path)
    sys.path[:] = [str(first), *before, str(last)]
    try:
        yield
    finally:
        sys.path[:] = before


def _forget_foreign(top: str, folder: Path) -> None:
    loaded = getattr(sys.modules.get(top), "__file__", None)
    if loaded is None or Path(loaded).resolve().is_relative_to(folder.resolve()):
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
