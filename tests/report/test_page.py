"""What the page says, read from its file."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas_compress.cli.main import commands
from nas_compress.data.load_dataset import load_dataset
from nas_compress.report.cards import missing_confusion
from nas_compress.report.page import report_page, write_report
from nas_compress.report.rows import AFTER_FIGURES
from nas_compress.runs.folder import RunFolder
from nas_compress.values.metrics.table import METRICS
from running import quick_and_apart

Make = Callable[..., RunFolder]


def data_of(page: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    values: dict[str, Any] = json.loads(match[1])
    return values


@pytest.fixture(scope="module")
def page(finished: RunFolder) -> str:
    with quick_and_apart():
        return report_page(finished)


def test_every_trial_stands_in_the_table_with_every_column(page: str, finished: RunFolder) -> None:
    data = data_of(page)
    measured = [name for name in METRICS if name in data["columns"]]
    assert {"accuracy", "latency_ms", "size_bytes"} <= set(measured)
    assert data["columns"] == ["trial", "standing", *measured, *AFTER_FIGURES, "family", "width_multiplier"]
    assert [row[0] for row in data["rows"]] == list(range(5))
    standings = [row[1] for row in data["rows"]]
    with (finished.root / "front.csv").open() as handle:
        members = [int(row["trial"]) for row in csv.DictReader(handle) if row["trial"] != "teacher"]
    assert sorted(members) == [
        row[0] for row, standing in zip(data["rows"], standings, strict=True) if standing == "front"
    ]
    assert "over budget" in standings
    assert data["knee"] == json.loads((finished.root / "front.json").read_text())["knee"]


def test_each_member_has_a_card_whose_confusion_adds_up_to_its_accuracy(page: str, finished: RunFolder) -> None:
    front = json.loads((finished.root / "front.json").read_text())
    samples = len(load_dataset(name="digits", seed=0, train_samples=200).validation)
    for member in front["members"]:
        start = page.index(f'id="card-{member["trial"]}"')
        card = page[start : page.index("</details>", start)]
        right = round(member["accuracy"] * samples)
        assert f"Confusion on the validation split ({right:,} of {samples:,} right)" in card
        counts = [
            int(cell)
            for cell in re.findall(r'<td(?: class="right")?(?: style="[^"]*")?>(\d+)</td>', card.split("Confusion")[1])
        ]
        assert sum(counts) == samples
        assert f"<b>{member['size_bytes']:,}</b>" in card
        assert "stem.conv" in card


def test_the_teachers_matrix_adds_up_to_its_accuracy(page: str, finished: RunFolder) -> None:
    teacher = json.loads((finished.root / "teacher" / "outcome.json").read_text())
    samples = len(load_dataset(name="digits", seed=0, train_samples=200).validation)
    card = page[page.index('id="card-teacher"') :]
    assert f"({round(teacher['accuracy'] * samples):,} of {samples:,} right)" in card


def test_records_without_counts_are_named_in_one_line(make_run: Make) -> None:
    page = report_page(make_run(trained=1))
    line = "Confusion matrices: none in 2 records of an earlier version, such as that of trial 0."
    assert line in page and "<h3>Confusion" not in page
    assert missing_confusion(None, ["trial 3"]) == "the task has no classes"
    assert missing_confusion(101, ["trial 3"]) == "records have them for at most 100 classes, and the task has 101"
    assert missing_confusion(101, []) == ""


def test_the_page_says_what_it_needs_from_nowhere_else(page: str) -> None:
    bare = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', bare) == []
    assert bare.count('src="data:image/png;base64,') == 2
    assert "data digits (augmentation: shift 1)" in bare
    assert len(page) < 8_000_000


@pytest.mark.parametrize(
    ("trained", "failed", "taught", "words"),
    [
        (0, 0, False, ["No trial has finished yet: there is no front to show", "0 of 1"]),
        (0, 0, True, ["No trial has finished yet: there is no front to show", "97 %"]),
        (0, 3, True, ["None of the 3 trials was measured", "ExportError: no", "3</b><span>failed"]),
        (1, 0, True, ["1</b><span>on the front", "need at least 10 trained trials", "No trial failed"]),
    ],
)
def test_a_run_of_few_or_only_failed_trials_still_has_a_page(
    trained: int, failed: int, taught: bool, words: list[str], make_run: Make
) -> None:
    page = report_page(make_run(trained=trained, failed=failed, taught=taught))
    for word in words:
        assert word in page, word
    assert len(data_of(page)["rows"]) == trained + failed
    assert ("plotly.js v" in page) == (trained > 0)


def test_trials_that_were_stopped_are_listed_and_curves_drawn(make_run: Make) -> None:
    page = report_page(make_run(trained=1, stopped=2))
    assert "2</b><span>stopped" in page
    assert page.count('<td>4 of 9</td><td class="text">a forecast</td>') == 2
    assert "10 saved by stopping 2 trials" in page
    assert 'd="M0.0 100.0 L33.3 50.0 L100.0 0.0"' in page
    assert [row[1] for row in data_of(page)["rows"]] == ["front", "stopped", "stopped"]


def test_what_a_user_named_cannot_break_the_page(make_run: Make) -> None:
    page = report_page(make_run(failed=1, reason="</script><script>alert(1)</script>"))
    assert "<script>alert" not in page
    data = data_of(page)
    assert data["rows"][0][data["columns"].index("reason")] == "</script><script>alert(1)</script>"


@pytest.mark.slow
def test_five_thousand_trials_fit_into_30_megabytes(make_run: Make, tmp_path: Path) -> None:
    write_report(make_run(trained=4900, failed=100), tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 30_000_000


def test_the_command_is_there() -> None:
    assert "report" in commands.commands
