"""The code blocks of the documentation."""

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
    *sorted(ROOT.glob("studies/*/README.md")),
]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block: its page (relative to the root), language, text and number on the page."""

    page: str
    language: str
    text: str
    number: int

    def __str__(self) -> str:
        return f"{self.page}:{self.number}"


def blocks(*languages: str, page: Path | None = None) -> list[Block]:
    """Return the blocks in these languages, of all pages in order or of one page."""
    return [block for place in ([page] if page else PAGES) for block in _of(place) if block.language in languages]


def _of(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    name = page.relative_to(ROOT).as_posix()
    return [Block(page=name, language=kind, text=text, number=n) for n, (kind, text) in enumerate(found)]


def command_lines() -> list[list[str]]:
    """Return the words of each distinct line in a shell block."""
    lines = [line for block in blocks("sh", "text") for line in block.text.splitlines()]
    words = [tuple(shlex.split(line, comments=True)) for line in lines]
    return [list(line) for line in dict.fromkeys(words) if line]
