"""Write docs/pages/damaged-files.md: `python tests/fuzz/page.py` tries every case and takes a quarter of an hour."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from damage import ANY, CONTENT, ENDINGS, FOLDERS, generic
from fuzzing import Judged, every_case, open_bench, try_all
from judging import Verdict

PAGE = Path(__file__).parents[2] / "docs" / "pages" / "damaged-files.md"

TEXT = """# Damaged files

No file is trusted. The bench in `tests/fuzz/` damages one file of a small, real run and then runs one command, for
every file and folder of the run, the cache, an exported bundle and the study, and for every command: {cases} cases.
Each case ends in one of three ways:

- **ok**: the same numbers as without damage, because the command does not need the file or makes a missing one anew.
- **notice**: the command continues without the file or makes it anew, and a line on stderr names it.
- **one line**: the command is refused with exit code 1 or 2 and one line with the file and the remedy. Nothing finished
  is lost: after the repair of the file, the run continues to the same results.

The other columns count defects: other words on stderr, a lost or changed finished file, a hang (over two minutes or
2.5 GB), a traceback, different numbers without a word.

{kinds}

A change of a value may make the checksum anew, like a forgery; then its numbers are not compared. A file of the user,
such as `study.toml`, may hold other numbers too, and `measure` takes any model.

## Files

{by_file}

## Commands

{by_command}

`python tests/fuzz/page.py` measures the tables again. `pytest -m slow tests/fuzz` runs the same cases, and `pytest
tests/fuzz` a sample of them.
"""

COLUMNS: dict[Verdict, str] = {
    "same": "ok",
    "notice": "notice",
    "line": "one line",
    "untidy": "other words",
    "lost": "lost",
    "hang": "hang",
    "traceback": "traceback",
    "silent": "silent",
}
"""Titles by verdict, defects last."""


def page(judged: Sequence[Judged]) -> str:
    """Return the page."""
    endings = {kind: None for suited in ENDINGS.values() for kind in suited}
    return TEXT.format(
        cases=f"{len(judged):,}",
        kinds=textwrap.fill(
            f"Damage to a file: {', '.join([*ANY, *CONTENT, *endings])}. Damage to a folder: {', '.join(FOLDERS)}.",
            120,
            break_on_hyphens=False,
        ),
        by_file=_totals("file", judged, lambda each: generic(each.case.path)),
        by_command=_totals("command", judged, lambda each: each.case.command.name),
    )


def _totals(title: str, judged: Sequence[Judged], group: Callable[[Judged], str]) -> str:
    lines = [[title, *COLUMNS.values()], ["---", *["--:"] * len(COLUMNS)]]
    for name in dict.fromkeys(map(group, judged)):
        lines.append([f"`{name}`", *_counts([each for each in judged if group(each) == name])])
    lines.append(["all", *_counts(judged)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _counts(judged: Sequence[Judged]) -> list[str]:
    verdicts = [each.verdict for each in judged]
    return [str(verdicts.count(verdict)) for verdict in COLUMNS]


def main() -> int:
    """Try every case and write the page; 1 if there are defects."""
    with open_bench() as bench:
        judged = try_all(bench, every_case(bench), lambda line: print(line, flush=True))
    PAGE.write_text(page(judged), encoding="utf-8")
    return int(any(not each.is_good for each in judged))


if __name__ == "__main__":
    sys.exit(main())
