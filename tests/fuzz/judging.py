"""Judge what a command did with a damaged file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from command_lines import Command
from fuzz_server import Ended
from target import OUTSIDE

Verdict = Literal["same", "notice", "line", "traceback", "hang", "silent", "lost", "untidy"]
"""same: exit 0 with the answers of the undamaged run. notice: exit 0, and a line names the file. line: refused in one
line that names it. All others are defects. untidy: refused, but with other words on stderr, or without the name.
lost: a finished trial, or a file outside the run, was changed.
"""

GOOD: tuple[Verdict, ...] = ("same", "notice", "line")

MOST_MB = 2500
"""Memory of a command, in MB. An undamaged one takes 500."""

EXECUTED = f"{OUTSIDE}/executed"
"""Mark of planted code."""

MADE_ANEW = ("cache/", "runs/tiny/checkpoints")
"""Files that are made anew with the same bits; a notice does not excuse other numbers."""

NOTICE = re.compile(
    r"damaged|unreadable|cannot|missing|no longer|ignored|left out|anew|rebuilt|made again|differ|not whole|again"
)
"""Words of a line about damage."""

FINISHED = ("trials/*/outcome.json", "trials/*/model.onnx", "confirm/*/*/*", "teacher/*")
"""Files of the run that no command may remove or change once they are finished."""

DURATION = re.compile(r"\b[\d.]+ (s|min)\b")
"""Printed times, which differ between two runs."""

VARYING = ("finished_s", "seconds", "sha256")
"""Keys of new records that depend on time."""


Answers = Mapping[str, object]


def answers(command: Command, ended: Ended, place: Path) -> dict[str, object]:
    """What a command printed, and the content of the files with its answers."""
    found: dict[str, object] = {"printed": DURATION.sub("some time", ended.out)}
    for pattern in command.answers:
        for path in sorted(place.glob(pattern)):
            if path.is_file():
                found[str(path.relative_to(place))] = _content(path)
    return found


def _content(path: Path) -> object:
    content = path.read_bytes()
    if path.suffix == ".json":
        try:
            return _steady(json.loads(content))
        except (ValueError, RecursionError):
            pass
    return hashlib.sha256(content).hexdigest()


def _steady(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _steady(value) for key, value in values.items() if key not in VARYING}
    return [_steady(value) for value in values] if isinstance(values, list) else values


def digests(place: Path) -> dict[str, str]:
    """Finished files of the run, and all files of others, by path with their digests."""
    paths = [path for pattern in FINISHED for path in place.glob(f"runs/tiny/{pattern}")]
    paths += [path for folder in (OUTSIDE, "study", "bundle") for path in (place / folder).glob("*")]
    kept = [path for path in paths if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def judge(
    ended: Ended,
    *,
    damaged: str,
    before: Mapping[str, str],
    after: Mapping[str, str],
    wanted: Answers,
    found: Answers,
    usual: Collection[str],
    trusted: bool,
    ran_code: bool,
    unwritten: Collection[str],
) -> tuple[Verdict, str]:
    """Return the verdict and a reason.

    damaged: path of the file. before, after: digests of files that must stay. wanted, found: answers of the undamaged
    run and of this one. usual: lines of the undamaged run on stderr. trusted: the numbers of the file count.
    ran_code: running the code of a damaged file is a loss. unwritten: paths of answers that the command did not write.
    """
    words = ended.err + ended.out
    if ended.timed_out or ended.memory_mb > MOST_MB:
        return "hang", f"{ended.seconds:.0f} s, {ended.memory_mb} MB"
    if "Traceback (most recent call last)" in words or ended.code < 0 or ended.code not in (0, 1, 2):
        return "traceback", _last(ended.err) or f"exit code {ended.code}"
    gone = [path for path, digest in before.items() if after.get(path) != digest]
    if gone:
        return "lost", f"{gone[0]} was {'changed' if gone[0] in after else 'removed'}"
    if ran_code and EXECUTED in after:
        return "lost", "planted code was run"
    lines = [line for line in ended.err.splitlines() if line.strip()]
    noise = [line for line in lines if re.search(r"Warning|\[[EW]:onnx|Error in ", line)]
    if noise:
        return "untidy", noise[0]
    named = [line for line in lines if line not in usual and NOTICE.search(line) and names(line, damaged)]
    if ended.code:
        own = [line for line in lines if line.startswith("nas-compress: ")]
        if len(own) != 1 or lines[-1] != own[0]:
            return "untidy", f"{len(own)} lines of ours: {_last(ended.err)}"
        if not any(names(line, damaged) for line in [own[0], *ended.out.splitlines()]):
            return "untidy", f"does not name the file: {own[0]}"
        return "line", own[0]
    different = [path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path)]
    different = [path for path in different if path not in unwritten]
    if not different or not trusted:
        return ("notice", named[0]) if named else ("same", "")
    if named and not damaged.startswith(MADE_ANEW):
        return "notice", named[0]
    return "silent", f"differs: {', '.join(sorted(different)[:3])}"


def names(line: str, damaged: str) -> bool:
    """True if a line names the damaged file, or a part of the run as specific as the file."""
    path = Path(damaged)
    if found := re.search(r"(trials|confirm)/(\d+)", damaged):
        words = [f"trial {found[2]}", found[0]]
    elif damaged.startswith(("study/", "bundle/")):
        words = [path.name, path.stem, "study file"]
    else:
        words = [path.name, *path.parts[2:-1]]
    return any(word in line for word in words) or (path.name == "trials" and "trial" in line)


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
