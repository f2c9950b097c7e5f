"""Packages that are only used if they are installed, by this one or by others, and may be broken."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from nas_compress.errors import RequestError, describe


@contextmanager
def broken_counts_as_missing(*names: str) -> Iterator[None]:
    """Import a package inside that imports these modules if it can, but expects no error except ImportError.

    A torchvision built for another torch raises RuntimeError, for example, and would end every command. After the block
    the modules raise their own errors again, because the user's code may import them.
    """
    hidden = [name for name in names if _is_broken(name)]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None lets an import raise ModuleNotFoundError
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


def optional_package(name: str, *, needed_for: str, extra: str) -> ModuleType:
    """Import a package of an extra; RequestError if it is not installed or broken.

    needed_for: the command or option, for the message. extra: its name in `pip install nas-compress[extra]`.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:
        why = "is not installed" if isinstance(error, ModuleNotFoundError) else f"is broken here ({describe(error)})"
        raise RequestError(f"{needed_for} needs {name}, which {why}: pip install 'nas-compress[{extra}]'") from error


def _is_broken(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    except Exception:
        return True
    return False
