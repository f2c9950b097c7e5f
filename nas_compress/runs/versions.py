"""Trials made under each set of versions of Python and of packages with influence on results."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from nas_compress.runs.records import Record


def version_groups(records: Sequence[Record]) -> list[tuple[dict[str, str], list[int]]]:
    """Return each set of versions with its trials, in the order of the trials.

    Copied outcomes and trials of unknown versions are left out.
    """
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for record in records:
        if record.versions and record.repeats is None:
            groups.setdefault(tuple(sorted(record.versions.items())), []).append(record.trial)
    return [(dict(known), trials) for known, trials in groups.items()]


def continuation_notes(records: Sequence[Record], now: Mapping[str, str]) -> list[str]:
    """Return a line for each set of versions other than `now`, with its trials.

    >>> from nas_compress.values.candidate import Candidate
    >>> from nas_compress.values.outcome import Outcome
    >>> outcome = Outcome(candidate=Candidate(family="resnet", depths=(1, 1, 1)), seed=0, state="failed", reason="why")
    >>> known = {"torch": "2.12.0"}
    >>> old = [Record(trial=n, params={}, outcome=outcome, finished_s=0, model="", versions=known) for n in range(3)]
    >>> continuation_notes(old, {"torch": "2.13.0"})
    ['torch 2.12.0 before, 2.13.0 now: trials 0 to 2 were made under the earlier versions']
    """
    lines = []
    for known, trials in version_groups(records):
        changed = [
            f"{name} {known.get(name, 'unknown')} before, {now.get(name, 'unknown')} now"
            for name in dict.fromkeys((*now, *known))
            if known.get(name) != now.get(name)
        ]
        if changed:
            verb = "was" if len(trials) == 1 else "were"
            lines.append(f"{'; '.join(changed)}: {trial_words(trials)} {verb} made under the earlier versions")
    return lines


def several_versions(records: Sequence[Record]) -> str:
    """Return a line with the trials of each set of versions; empty if there is only one set.

    Packages with the same version in all sets are left out.
    """
    groups = version_groups(records)
    if len(groups) < 2:
        return ""
    names = dict.fromkeys(name for known, _ in groups for name in known)
    differing = [name for name in names if len({known.get(name) for known, _ in groups}) > 1]
    parts = [
        f"{', '.join(f'{name} {known[name]}' for name in differing if name in known)} for {trial_words(trials)}"
        for known, trials in groups
    ]
    return f"made under several versions: {'; '.join(parts)}"


def trial_words(trials: Iterable[int]) -> str:
    """Return trial numbers in words, with ranges.

    >>> trial_words([0, 1, 2, 7]), trial_words([3])
    ('trials 0 to 2, 7', 'trial 3')
    """
    numbers = sorted(trials)
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    words = [str(part[0]) if len(part) == 1 else f"{part[0]} to {part[-1]}" for part in ranges]
    return f"trial{'s' if len(numbers) > 1 else ''} {', '.join(words)}"


def versions() -> dict[str, str]:
    """Return the versions of Python and of packages with influence on results."""
    return dict(_versions())


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    names = ("torch", "onnx", "onnxruntime", "optuna", "torch-pruning", "numpy")
    ours = {"python": platform.python_version(), "nas-compress": importlib.metadata.version("nas-compress")}
    return tuple((ours | {name: importlib.metadata.version(name) for name in names}).items())
