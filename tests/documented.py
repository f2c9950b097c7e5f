"""The code blocks of the documentation, as they are printed."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "docs" / "examples" / "README.md",
    *sorted(ROOT.glob("docs/pages/**/*.md")),
]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block: the page it stands on, from the root, its language and its text."""

    page: str
    language: str
    text: str
    number: int

    def __str__(self) -> str:
        return f"{self.page}:{self.number}"


def blocks(*languages: str, page: Path | None = None) -> list[Block]:
    """Every block of these languages, in the order of the pages, or those of one page."""
    return [block for place in ([page] if page else PAGES) for block in _of(place) if block.language in languages]


def _of(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    name = page.relative_to(ROOT).as_posix()
    return [Block(page=name, language=kind, text=text, number=n) for n, (kind, text) in enumerate(found)]


def command_lines() -> list[list[str]]:
    """Every line of a block for the shell as its words, each once."""
    lines = [line for block in blocks("sh", "text") for line in block.text.splitlines()]
    words = [tuple(shlex.split(line, comments=True)) for line in lines]
    return [list(line) for line in dict.fromkeys(words) if line]
