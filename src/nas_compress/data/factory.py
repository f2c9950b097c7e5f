"""Data from the user's own module: import it, call its function, check what came back."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from nas_compress.data.assemble import Parts, Samples
from nas_compress.data.checks import class_count, require_complete
from nas_compress.data.refusal import refusal
from nas_compress.data.stratify import stratified_split
from nas_compress.data.user_samples import describe, to_samples
from nas_compress.errors import nearest, require_known

VALIDATION_SHARE = 0.15
"""Of the training samples, where the function returns no validation split."""

SPLITS = ("train", "validation", "test")
"""The keys that the function's mapping may have; validation may be left out."""


def read_factory(factory: str, *, folder: Path | None, seed: int, where: str) -> Parts:
    """Call `module:callable` without arguments and check the splits that it returns.

    `folder` stands first on sys.path meanwhile. RequestError says in one line what is wrong.
    """
    module, name = _names(factory, where)
    with _importable(folder, module):
        returned = _call(_attribute(module, name, where), factory, where)
        splits = _splits(returned, where)
    classes = class_count(splits["train"][1], where)
    require_complete(splits, classes, where)
    if "validation" not in splits:
        splits = _with_validation(splits, seed)
        shown = f"validation ({VALIDATION_SHARE:.0%} of train)"
        require_complete({"train": splits["train"], shown: splits["validation"]}, classes, where)
    return Parts(
        name=factory,
        classes=classes,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
    )


def _names(factory: str, where: str) -> tuple[str, str]:
    module, _, name = factory.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise refusal(f"factory must be 'module:callable', but got {factory!r}", where)
    return module, name


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


def _call(function: Callable[[], object], factory: str, where: str) -> Mapping[object, object]:
    try:
        returned = function()
    except Exception as error:
        raise refusal(f"{factory}() must return the splits, but raised {describe(error)}", where) from error
    if not isinstance(returned, Mapping):
        raise refusal(
            f"{factory}() must return a mapping of splits, but got {type(returned).__name__}", where
        )
    return returned


def _splits(returned: Mapping[object, object], where: str) -> dict[str, Samples]:
    for key in returned:
        require_known("a split", str(key), SPLITS, where)
    for key in ("train", "test"):
        if key not in returned:
            got = ", ".join(map(str, returned)) or "none"
            raise refusal(f"the splits must include train and test, but got {got}", where)
    return {name: to_samples(returned[name], name, where) for name in SPLITS if name in returned}


def _with_validation(splits: Mapping[str, Samples], seed: int) -> dict[str, Samples]:
    inputs, labels = splits["train"]
    count = max(1, round(VALIDATION_SHARE * len(labels)))
    validation, train = stratified_split(labels, counts=(count, len(labels) - count), seed=seed)
    return {
        "train": (inputs[train], labels[train]),
        "validation": (inputs[validation], labels[validation]),
        "test": splits["test"],
    }
