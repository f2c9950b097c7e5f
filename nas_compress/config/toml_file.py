"""Read a TOML file with limits, so that no file can stop the program; each error has the file and the place."""

from __future__ import annotations

import codecs
import datetime
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nas_compress.errors import RequestError, printable

TOML_LIMIT = 500_000
"""Largest file that is read, in bytes."""

DOTS_LIMIT = 200
"""Most dots of one key; the time to parse a key grows with the square of their number."""

DEPTH_LIMIT = 20
"""Deepest nesting of tables and arrays."""

INTEGERS = range(-(2**63), 2**63)
"""The integers of TOML."""

_BETWEEN_KEYS = re.compile(r"[][{}=,]")
_LONG_NUMBER = re.compile(r"[0-9_]{1000}")
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file; RequestError of one line if it cannot be read.

    A byte order mark before the text is skipped.
    """
    try:
        with path.open("rb") as file:
            content = file.read(TOML_LIMIT + 1)
    except OSError as error:
        raise RequestError(f"a study file must be readable text, but {path} is not: {error.strerror}") from error
    text = _decoded(content, path)
    _require_short_keys(text, path)
    try:
        values = tomllib.loads(text)
    except RecursionError as error:
        raise _too_deep(path, _deep_line(text)) from error
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"a study file must be valid TOML, but {path} is not: {printable(str(error))}") from error
    except ValueError as error:  # Python's limit of digits
        line = _first_line(text, lambda line: _LONG_NUMBER.search(line) is not None)
        raise RequestError(f"an integer must have at most 64 bits, but {path} has a longer one{line}") from error
    return values


def require_plain(values: Mapping[str, Any], label: str) -> None:
    """Raise RequestError for deep nesting, an integer of more than 64 bits, and a date. label: the file's name."""
    for keys, value in _leaves(values):
        key = printable(".".join(keys))
        if isinstance(value, dict | list):
            raise RequestError(f"{label}: {key[:60]}...: tables and arrays must nest at most {DEPTH_LIMIT} deep")
        if isinstance(value, int) and value not in INTEGERS:
            raise RequestError(
                f"{label}: {key}: an integer must have at most 64 bits, but got one of {value.bit_length()}"
            )
        if isinstance(value, datetime.date | datetime.time):
            raise RequestError(f"{label}: {key}: a value must be no date or time, but got {key}={value}")


def _decoded(content: bytes, path: Path) -> str:
    if len(content) > TOML_LIMIT:
        raise RequestError(f"a study file must have at most {TOML_LIMIT:,} bytes, but {path} has more")
    if content.startswith(_WIDE):
        raise RequestError(f"a study file must be readable text in UTF-8, but {path} is UTF-16: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RequestError(
            f"a study file must be readable text in UTF-8, but {path} has the byte 0x{content[error.start]:02x} "
            f"in line {line}: save it as UTF-8"
        ) from error


def _require_short_keys(text: str, path: Path) -> None:
    def has_long_key(line: str) -> bool:
        return line.count(".") > DOTS_LIMIT and any(key.count(".") > DOTS_LIMIT for key in _BETWEEN_KEYS.split(line))

    line = _first_line(text, has_long_key)
    if line:
        raise _too_deep(path, line)


def _too_deep(path: Path, line: str) -> RequestError:
    return RequestError(f"tables and arrays must nest at most {DEPTH_LIMIT} deep, but {path} has deeper ones{line}")


def _deep_line(text: str) -> str:
    """Describe the first line with too many open brackets; brackets in strings count too."""
    opened = 0

    def is_deep(line: str) -> bool:
        nonlocal opened
        opened += line.count("[") + line.count("{")
        deep = opened > DEPTH_LIMIT
        opened -= line.count("]") + line.count("}")
        return deep

    return _first_line(text, is_deep)


def _first_line(text: str, is_wrong: Callable[[str], bool]) -> str:
    found = next((number for number, line in enumerate(text.split("\n"), 1) if is_wrong(line)), None)
    return "" if found is None else f" (line {found})"


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield each value with its keys, in the order of the file; below the limit of depth a whole table or array."""
    waiting: list[tuple[tuple[str, ...], object]] = [((), values)]
    while waiting:
        keys, value = waiting.pop()
        if isinstance(value, dict | list) and len(keys) <= DEPTH_LIMIT:
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [((*keys, str(key)), item) for key, item in reversed(list(items))]
        else:
            yield keys, value
