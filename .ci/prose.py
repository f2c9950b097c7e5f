"""Measure the prose of docstrings and pages, and fail above the limits: `python .ci/prose.py [--worst] [PATH ...]`.

Three figures separate plain English from riddles: relative words, openings with a noun clause, and verbs that
turn files into persons. The limits only ever go down.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

LIMITS = {"relative words per 100": 1.7, "openings with a noun clause, %": 1.5, "persons per 100 words": 0.1}
"""Aim: 1.7, 1.5 and 0.1. Each limit is set to the figure that the code has reached."""

RELATIVE = re.compile(r"\b(that|which|who|whose|where|whom|whoever|whatever|what)\b", re.IGNORECASE)
OPENING = re.compile(r"(What|Whether|How|Who|Which|Where|By|From)\b")
PERSON = re.compile(r"\b(beside|told|tells|stands?|comes?|meets?|goes)\b")


def texts(path: Path) -> Iterator[str]:
    """The docstrings of Python files and the prose of Markdown pages, of a file or of all files in a folder."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.suffix == ".py":
            yield from _docstrings(ast.parse(file.read_text(encoding="utf-8")))
        elif file.suffix == ".md":
            yield _page_prose(file.read_text(encoding="utf-8"))


def _docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield (ast.get_docstring(node) or "").split(">>>")[0]


def _page_prose(text: str) -> str:
    """The paragraphs and list items of a page, without code blocks, tables, headings and pictures."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^( {4}|\||#|!\[|<!--).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"^\s*(?:[-*]|\d+\.) +", ". ", text, flags=re.MULTILINE)


def sentences(text: str) -> list[str]:
    """The sentences of three words or more."""
    return [part for part in re.split(r"(?<=[.!?])\s+", " ".join(text.split())) if len(part.split()) >= 3]


def figures(lines: list[str]) -> dict[str, float]:
    """The three figures of some sentences, by the names of the limits."""
    words = max(sum(len(line.split()) for line in lines), 1)
    counts = (
        100 * sum(len(RELATIVE.findall(line)) for line in lines) / words,
        100 * sum(bool(OPENING.match(line)) for line in lines) / max(len(lines), 1),
        100 * sum(len(PERSON.findall(line)) for line in lines) / words,
    )
    return dict(zip(LIMITS, counts, strict=True))


def main(arguments: list[str]) -> int:
    """Print the figures of each path. Return 1 if one of them is above its limit.

    --worst: print the sentences with two relative words or more, a noun clause in front, or a file as a person.
    """
    worst = "--worst" in arguments
    code = 0
    for path in [Path(name) for name in arguments if name != "--worst"] or [ROOT / "nas_compress"]:
        lines = [line for text in texts(path) for line in sentences(text)]
        found = figures(lines)
        shown = "; ".join(f"{name} {found[name]:.2f} (at most {LIMITS[name]:g})" for name in LIMITS)
        print(f"prose of {path.name}: {shown}")
        if worst:
            print(*(line for line in lines if _is_bad(line)), sep="\n")
        code |= any(found[name] > LIMITS[name] for name in LIMITS)
    return code


def _is_bad(line: str) -> bool:
    return len(RELATIVE.findall(line)) > 1 or bool(OPENING.match(line)) or bool(PERSON.search(line))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
