"""The state dict of a module, found in a checkpoint and matched with the module's names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nas_compress.errors import RequestError, printable, require_known

AVERAGES = ("ema", "averag", "swa", "shadow")
"""Parts of the keys of averaged weights. They are read if a study names them, or if nothing else fits."""

WRAPPERS = ("module", "_orig_mod")
"""Parts of names from DataParallel, AveragedModel and torch.compile."""

OPTIONAL = ("num_batches_tracked", "n_averaged")
"""Last parts of names that a file may lack, or have in addition: counters, which no prediction reads."""

DEPTH = 2
"""Levels of keys above a state dict."""

SHOWN = 3
"""Names or keys in a message."""

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundState:
    """Tensors by the names of a module.

    note: the key and the prefix that were needed, with the other keys that fit; empty for a plain state dict.
    """

    state: Mapping[str, Tensor]
    note: str


@dataclass(frozen=True, kw_only=True)
class _Match:
    """Names of the file by names of the module, and the difference in words."""

    names: Mapping[str, str]
    change: str


def find_state(
    checkpoint: Mapping[Any, Any], wanted: Mapping[str, Shape], *, key: str | None, name: str, label: str
) -> FoundState:
    """Return the state dict in a checkpoint that has the names and shapes of a module.

    A state dict without a key comes first, then keys in the order of the file, then averaged weights. Prefixes of
    wrappers and a common prefix are removed or added. RequestError names the file's names next to the module's, or the
    prefixes if several fit.

    checkpoint: content of the file. wanted: shapes of the module by name. key: of the state dict, such as `ema` or
    `ema.model`; None for a search. name: of the file. label: of the study file.
    """
    found = _state_dicts(checkpoint)
    if key is not None:
        known = [each for each in found if each]
        require_known("teacher.weights_key", key, known or ["nothing, because this file has no keys"], where=label)
        found = {key: found[key]}
    if not any(found.values()) and wanted:
        keys = ", ".join(printable(str(each)) for each in list(checkpoint)[:SHOWN]) or "no keys"
        raise RequestError(f"{label}: teacher.weights must hold a state dict, but {name} holds no tensors ({keys})")
    fitting: dict[str, FoundState] = {}
    for place in sorted(found, key=_is_average):
        match = _match(list(found[place]), list(wanted), name=name, label=label)
        if match is None or _differing(found[place], wanted, match):
            continue
        state = {own: found[place][given] for own, given in match.names.items()}
        fitting[place] = FoundState(state=state, note=match.change)
    if not fitting:
        raise RequestError(f"{label}: teacher.weights must fit the module, but {_difference(found, wanted, name)}")
    place, *others = fitting
    return FoundState(state=fitting[place].state, note=_note(name, place, fitting[place].note, others))


def _note(name: str, place: str, change: str, others: Sequence[str]) -> str:
    under = f"under {place!r} of {name}" if place else f"of {name}"
    if not place and not change:
        return ""
    also = f"; {', '.join(map(repr, others))} of the file fit too (teacher.weights_key)" if others else ""
    return printable(f"teacher.weights: the state dict {under}{change}{also}")


def _state_dicts(checkpoint: Mapping[Any, Any]) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of a checkpoint by name, for each key that has some; the key "" is the file itself."""
    found: dict[str, dict[str, Tensor]] = {}

    def visit(values: Mapping[Any, Any], place: str, depth: int) -> None:
        tensors = {key: value for key, value in values.items() if isinstance(key, str) and isinstance(value, Tensor)}
        if tensors or not place:
            found[place] = tensors
        for key, value in values.items():
            if depth < DEPTH and isinstance(key, str) and isinstance(value, Mapping):
                visit(value, f"{place}.{key}" if place else key, depth + 1)

    visit(checkpoint, "", 0)
    if len(found) > 1 and not found[""]:
        del found[""]
    return found


def _is_average(place: str) -> bool:
    return any(word in place.lower() for word in AVERAGES)


def _match(given: Sequence[str], wanted: Sequence[str], *, name: str, label: str) -> _Match | None:
    """Match names of a file with those of a module: equal, without wrappers, or after a common prefix."""
    plain = _equal({each: each for each in given}, {each: each for each in wanted})
    if plain is not None:
        return _Match(names=plain, change="")
    own, theirs = {_bare(each): each for each in wanted}, {_bare(each): each for each in given}
    if len(own) < len(wanted) or len(theirs) < len(given):
        return None
    bare = _equal(theirs, own)
    if bare is not None:
        removed = " and ".join(f"'{each}.'" for each in WRAPPERS if _has_part(given, each))
        return _Match(names=bare, change=f" without the prefix {removed}" if removed else " with the module's prefix")
    return _by_prefix(theirs, own, name=name, label=label)


def _equal(given: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str] | None:
    """Return the given names by the wanted ones if both have the same keys, except optional ones."""
    if any(not _is_optional(key) for key in given.keys() ^ wanted.keys()):
        return None
    return {wanted[key]: given[key] for key in wanted if key in given}


def _by_prefix(given: Mapping[str, str], wanted: Mapping[str, str], *, name: str, label: str) -> _Match | None:
    """Match names that differ by one prefix, in the file or in the module. Other names of the file are left out."""
    needed = [key for key in wanted if not _is_optional(key)]
    if not needed:
        return None
    longest = max(needed, key=len)
    prefixes = [key.removesuffix(longest) for key in given if key.endswith(f".{longest}")]
    fitting = [prefix for prefix in prefixes if all(prefix + key in given for key in needed)]
    if len(fitting) > 1:
        raise RequestError(
            f"{label}: teacher.weights must hold one network like the module, but {name} has several: "
            f"{', '.join(fitting[:SHOWN])}; save the state dict of one"
        )
    for prefix in fitting:
        names = {wanted[key]: given[prefix + key] for key in wanted if prefix + key in given}
        others = len(given) - len(names)
        left = f"; {others} other tensors are left out" if others else ""
        return _Match(names=names, change=f" without the prefix {prefix!r}{left}")
    parts = needed[0].split(".")
    for count in range(1, len(parts)):
        prefix = ".".join(parts[:count]) + "."
        if not all(key.startswith(prefix) for key in wanted):
            return None
        names = _equal(given, {key.removeprefix(prefix): value for key, value in wanted.items()}) or {}
        if names:
            return _Match(names=names, change=f" with the prefix {prefix!r} of the module")
    return None


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _has_part(names: Sequence[str], part: str) -> bool:
    return any(part in name.split(".") for name in names)


def _is_optional(name: str) -> bool:
    return name.rpartition(".")[2] in OPTIONAL


def _differing(given: Mapping[str, Tensor], wanted: Mapping[str, Shape], match: _Match) -> list[str]:
    return [own for own, theirs in match.names.items() if tuple(given[theirs].shape) != wanted[own]]


def _difference(found: Mapping[str, Mapping[str, Tensor]], wanted: Mapping[str, Shape], name: str) -> str:
    """Name the first differences of the state dict with most of the module's names and shapes."""
    place = max(found, key=lambda each: sum(wanted.get(key) == tuple(t.shape) for key, t in _named(found[each])))
    given = {key: tuple(tensor.shape) for key, tensor in _named(found[place])}
    missing = [key for key in wanted if key not in given and not _is_optional(key)]
    spare = [key for key in given if key not in wanted and not _is_optional(key)]
    wrong = [
        (key, f"{key} {given[key]} for {wanted[key]}") for key in wanted if given.get(key, wanted[key]) != wanted[key]
    ]
    for key in missing:
        alike = [other for other in spare if given[other] == wanted[key]]
        if alike:
            nearest = max(alike, key=lambda other: difflib.SequenceMatcher(None, other, key).ratio())
            spare.remove(nearest)
            wrong.append((key, f"{nearest} {given[nearest]} for {key}"))
        else:
            wrong.append((key, f"{key} missing for {wanted[key]}"))
    wrong += [(key, f"{key} {given[key]} for nothing") for key in spare]
    lines = [text for _, text in sorted(wrong)]
    more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    where = f"{name} (under {place!r})" if place else name
    return printable(f"{where} has {', '.join(lines[:SHOWN])}{more}")


def _named(tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Return tensors by their names without wrappers."""
    return [(_bare(key), tensor) for key, tensor in tensors.items()]
