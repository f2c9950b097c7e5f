"""Damage to text, and to values in JSON: a whole file, or a line of a journal.

Most changes of a sealed JSON file make its checksum anew, like a forgery.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from target import OUTSIDE, NotApplicableError, Target

from nas_compress.files import DIGEST, digest_of_values

JSON = (".json", ".journal")

DEEP = 200_000
"""Levels of nested brackets; Python's parser ends far earlier."""


def flip_digit(target: Target) -> None:
    """Change a digit; the file still parses."""
    content = bytearray(target.content)
    places = [index for index, byte in enumerate(content) if chr(byte).isdigit()]
    if not places:
        raise NotApplicableError
    at = target.random.choice(places)
    content[at] = ord(target.random.choice([digit for digit in "123456789" if ord(digit) != content[at]]))
    target.write(bytes(content))


def drop_line(target: Target) -> None:
    lines = target.content.splitlines(keepends=True)
    if len(lines) < 2:
        raise NotApplicableError
    del lines[target.random.randrange(len(lines))]
    target.write(b"".join(lines))


def invalid_utf8(target: Target) -> None:
    at = target.random.randrange(len(target.content) + 1)
    target.write(target.content[:at] + b"\xff\xfe\x80" + target.content[at:])


def byte_order_mark(target: Target) -> None:
    target.write(b"\xef\xbb\xbf" + target.content)


def wrong_type(target: Target) -> None:
    others: list[Any] = [None, True, -1, 0.5, "text", [], {}, [1, "two"], {"three": 3}]
    _change_value(target, lambda value: target.random.choice([other for other in others if other != value]))


def drop_key(target: Target) -> None:
    def drop(parent: Any, key: Any) -> None:
        del parent[key]

    _change(target, drop, within=dict)


def unknown_key(target: Target) -> None:
    def add(parent: Any, key: Any) -> None:
        parent["unknown"] = 1

    _change(target, add, within=dict)


def nan(target: Target) -> None:
    odd = target.random.choice([float("nan"), float("inf"), -float("inf")])
    _change_value(target, lambda value: odd, only=(int, float))


def huge(target: Target) -> None:
    number = target.random.choice([10**400, -(10**400), 1e308, 2**63, 10**4000, -1])
    _change_value(target, lambda value: number, only=(int, float))


def traverse(target: Target) -> None:
    paths = ["../../outside/precious.txt", str(target.place / OUTSIDE), "/dev/null", "/etc/passwd", "..", "a/\0b", ""]
    _change_value(target, lambda value: target.random.choice(paths), only=(str,))


def nest_deeply(target: Target) -> None:
    brackets = b"[" * DEEP + b"]" * DEEP
    if target.random.random() < 0.5 or not _has_values(target):
        target.write(brackets)
        return
    mark = "nested deeply"
    _change_value(target, lambda value: mark)
    target.write(target.content.replace(json.dumps(mark).encode(), brackets))


def _has_values(target: Target) -> bool:
    return target.path.suffix in JSON and target.path.stat().st_size > 2


def _change_value(target: Target, make: Callable[[Any], Any], only: tuple[type, ...] = ()) -> None:
    def replace(parent: Any, key: Any) -> None:
        parent[key] = make(parent[key])

    _change(target, replace, only=only)


def _change(
    target: Target, change: Callable[[Any, Any], None], *, only: tuple[type, ...] = (), within: type = object
) -> None:
    lines = target.path.suffix == ".journal"
    texts = target.content.decode().splitlines() if lines else [target.content.decode()]
    number = target.random.randrange(len(texts))
    values = json.loads(texts[number])
    sealed = isinstance(values, dict) and DIGEST in values
    nodes = [
        (parent, key)
        for parent, key in _nodes(values)
        if isinstance(parent, within) and (not only or type(parent[key]) in only) and key != DIGEST
    ]
    if not nodes:
        raise NotApplicableError
    change(*target.random.choice(nodes))
    if sealed and target.random.random() < 0.7:
        del values[DIGEST]
        values[DIGEST] = digest_of_values(values)
    texts[number] = json.dumps(values, indent=None if lines else 2)
    target.write(("\n".join(texts) + "\n").encode())


def _nodes(values: Any) -> Iterator[tuple[Any, Any]]:
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield values, key
        yield from _nodes(value)
