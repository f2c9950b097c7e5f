"""Members with zeros among their weights: what `show` and the report say of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from click.testing import CliRunner

from nas_compress.cli.show import show
from nas_compress.report.page import report_page
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records, write_record
from nas_compress.runs.results import read_front

MakeRun = Callable[..., RunFolder]


def printed(folder: RunFolder, *options: str) -> str:
    result = CliRunner().invoke(show, [str(folder.root), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_fraction_of_zeros_and_whose_latency_it_is(make_run: MakeRun) -> None:
    folder = make_run(trained=6)
    member = read_front(folder).members[0].trial
    assert "zeros" not in printed(folder) and "multiplies zeros" not in report_page(folder)
    (record,) = (one for one in read_records(folder) if one.trial == member)
    outcome = record.outcome
    assert outcome.measured is not None
    sparse = replace(
        outcome,
        candidate=replace(outcome.candidate, zero_pattern="gradual", zero_fraction=0.5),
        measured=replace(outcome.measured, zero_fraction=0.4375),
    )
    write_record(folder, replace(record, outcome=sparse))

    lines = printed(folder).splitlines()
    assert "zeros" in lines[0].split() and any("0.4375" in line for line in lines)
    assert lines[-1].endswith("They do not reduce the latency: the runtime multiplies zeros too.")
    rows = {row["trial"]: row["zeros"] for row in json.loads(printed(folder, "--json"))}
    assert rows.pop(member) == 0.4375 and set(rows.values()) == {None}
    text = " ".join(report_page(folder).split())
    assert "43.8% of the file's weights are 0 (gradual); this does not reduce the latency" in text
