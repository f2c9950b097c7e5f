"""Damaged files never end in a traceback, a hang, a loss, or another number without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_lines import COMMANDS
from damage import ANY, CONTENT, TEXT, VALUES, apply, is_forged
from fuzz_server import Ended
from fuzzing import Case, Judged, every_case, open_bench, some_cases, try_all
from judging import Verdict, judge
from page import COLUMNS, page

from nas_compress.files import read_sealed_json, write_sealed_json

DONE = Ended(code=0, out="", err="", timed_out=False, seconds=0.1, memory_mb=400)
TRIAL = "runs/tiny/trials/1/outcome.json"


def test_a_sample_of_damages_is_survived() -> None:
    with open_bench(quick=True) as bench:
        judged = try_all(bench, some_cases(bench, count=12), print)
    assert len(judged) > 8
    assert not [each for each in judged if not each.is_good]


@pytest.mark.slow
def test_every_file_may_be_damaged_under_every_command() -> None:
    with open_bench() as bench:
        judged = try_all(bench, every_case(bench), print)
    assert len(judged) >= 1000
    assert not [each for each in judged if not each.is_good]


def verdict_on(
    ended: Ended,
    *,
    damaged: str = TRIAL,
    after: dict[str, str] | None = None,
    found: str = "1",
    trusted: bool = True,
) -> Verdict:
    verdict, _ = judge(
        ended,
        damaged=damaged,
        before={"outside/precious.txt": "a"},
        after={"outside/precious.txt": "a"} if after is None else after,
        wanted={"printed": "1"},
        found={"printed": found},
        usual=[],
        unwritten=[],
        trusted=trusted,
        ran_code=True,
    )
    return verdict


def ended(code: int, err: str) -> Ended:
    return Ended(code=code, out="", err=err, timed_out=False, seconds=0.1, memory_mb=400)


def test_each_verdict_is_given() -> None:
    line = f"nas-compress: {TRIAL} is damaged. Restore it."
    assert verdict_on(DONE) == "same"
    assert verdict_on(DONE, found="2") == "silent"
    assert verdict_on(DONE, found="2", trusted=False) == "same"
    assert verdict_on(ended(0, f"{TRIAL} is damaged"), found="2") == "notice"
    anew = "runs/tiny/checkpoints/a.pt"
    assert verdict_on(ended(0, f"{anew} is damaged"), damaged=anew) == "notice"
    assert verdict_on(ended(0, f"{anew} is damaged"), damaged=anew, found="2") == "silent"
    assert verdict_on(ended(1, line)) == "line"
    assert verdict_on(ended(1, "nas-compress: no")) == "untidy"
    assert verdict_on(ended(1, f"{line}\n{line}")) == "untidy"
    assert verdict_on(ended(1, "Traceback (most recent call last):\nKeyError: 'x'")) == "traceback"
    assert verdict_on(ended(-11, "")) == "traceback"
    assert verdict_on(DONE, after={}) == "lost"
    assert verdict_on(DONE, after={"outside/precious.txt": "a", "outside/executed": "b"}) == "lost"


def test_the_page_counts_verdicts_by_file_and_command() -> None:
    judged = [
        Judged(case=Case(path=TRIAL, kind="empty", command=COMMANDS[0]), verdict=verdict, reason="", seconds=0.1)
        for verdict in COLUMNS
        for _ in range(2 if verdict == "line" else 1)
    ]
    text = page(judged)
    counted = "| 1 | 1 | 2 | 1 | 1 | 1 | 1 | 1 |"
    for name in ("`runs/tiny/trials/*/outcome.json`", "`status`", "all"):
        assert f"| {name} {counted}" in text


def test_a_forged_file_fits_its_checksum(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    forged = 0
    for seed in range(20):
        write_sealed_json(tmp_path / "a.json", {"one": 1, "two": "text", "three": {"four": 4}})
        assert apply("a key less", "a.json", tmp_path, seed)
        if is_forged("a key less", tmp_path / "a.json"):
            forged += 1
            read_sealed_json(tmp_path / "a.json")
    assert 5 < forged < 20


@pytest.mark.parametrize("kind", [kind for kind in ANY | CONTENT | TEXT | VALUES if kind != "unreadable"])
def test_every_kind_changes_a_file(kind: str, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"one": 1, "two": "text", "three": [4]}, indent=1) + "\n")
    (tmp_path / "b.json").write_text("{}")
    assert apply(kind, path.name, tmp_path, 0)
