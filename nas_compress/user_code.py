"""Import of a user's functions, named `module:callable` in a study file."""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
import zipfile
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


def code_digest(reference: str, *, folder: Path | None) -> str | None:
    """Return the SHA-256 of a module of `module:callable` with the modules of the same place that it imports.

    Imports are read from the text, those in functions too; nothing is loaded. Modules in the folder or package of the
    named one count, with those that they import. None if the named module has no file.
    """
    module, file = reference.partition(":")[0], module_file(reference, folder=folder)
    if file is None:
        return None
    root, found, left = _root(module, file), {module: file}, [module]
    own_package_only = root not in {each.resolve() for each in (folder or Path(), Path.cwd())}
    while left:
        importer = left.pop()
        for name in _imports(importer, found[importer]):
            if name in found or (own_package_only and name.partition(".")[0] != module.partition(".")[0]):
                continue
            near = module_file(f"{name}:x", folder=folder)
            if near is not None and _root(name, near) == root:
                found[name] = near
                left.append(name)
    digests = {name: hashlib.sha256(found[name].read_bytes()).hexdigest() for name in sorted(found)}
    if len(digests) == 1:
        return digests[module]
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in digests.items()).encode()).hexdigest()


def _root(module: str, file: Path) -> Path:
    """Return the folder in which the search finds the first part of a module's name."""
    return file.resolve().parents[module.count(".") + (file.stem == "__init__")]


def _imports(module: str, file: Path) -> Iterator[str]:
    """Return the names of modules that the text of a file imports; of `from a import b` also a.b, which may be one."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # a compiled module, or a mistake that loading it names
        return
    package = module.split(".") if file.stem == "__init__" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [".".join(filter(None, (base, end))) for end in ("", *(alias.name for alias in node.names))]
        else:
            continue
        for name in filter(_is_module, names):
            parts = name.split(".")
            yield from (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))


def _is_module(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def is_torchscript(path: Path) -> bool:
    """True if a file is a program of `torch.jit.save`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


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
