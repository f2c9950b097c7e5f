"""A study with searched exits: front, bundle, example, `show`, `measure`, `verify`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nas_compress.confirm.measured_again import measure_files_again
from nas_compress.confirm.run import confirm_run
from nas_compress.errors import RequestError
from nas_compress.report.page import report_page
from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.checks.verify import verify_files
from nas_compress.runs.confirmation import (
    read_confirmation,
    read_repetition,
    read_test_figures,
    write_repetition,
)
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_record, write_record
from nas_compress.runs.results import read_front
from nas_compress.search.measure import measure
from nas_compress.search.run import run_study
from nas_compress.values.exits.figures import OperatingPoint, expected
from nas_compress.values.front_point import Point
from running import Command, command_in, own_cache, quick_and_apart, write_study

SPACE = '''"""One network with exits at two places, and without."""
from nas_compress.values.candidate import Candidate, Exits


def suggest(trial):
    """Propose one student."""
    after = trial.suggest_categorical("exits", ["none", "stage0", "stage1"])
    exits = None if after == "none" else Exits(after=(after,), accuracy_loss=0.02)
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5, weight_bits=8, exits=exits)
'''

__all__ = ["own_cache"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study and its run of four trials."""
    folder = tmp_path_factory.mktemp("exits")
    with quick_and_apart():
        run_study(
            write_study(folder / "study", space=SPACE),
            out=folder / "run",
            trials=4,
        )
    return folder


def trial_with_exits(folder: RunFolder) -> int:
    for trial in range(4):
        record = read_record(folder, trial)
        if record is not None and record.outcome.candidate.exits is not None and record.outcome.state == "trained":
            return trial
    raise AssertionError("no trial has exits")


def test_a_run_with_exits_is_whole_and_repeats_its_figures(run: Path) -> None:
    folder = RunFolder(root=run / "run")
    assert verify_files(folder).problems == []
    record = read_record(folder, trial_with_exits(folder))
    assert record is not None
    (again,) = measure_files_again(folder, [record], None)
    assert again.differences == ()
    found = measure(folder.root / record.model, run / "study")
    measured = record.outcome.measured
    assert measured is not None
    assert measured.exits is not None
    assert found["accuracy"] == measured.figure("accuracy")
    assert found["exit_rates"] == measured.exits.rates
    assert found["latency_ms"] == found["stream_ms"][0]
    assert found["stream_samples"] == measured.exits.stream_samples
    for point in measured.exits.points:
        assert point.latency_ms == pytest.approx(expected(measured.exits.latency_ms, point.rates))


def test_a_bundle_prints_the_exit_and_takes_a_threshold(run: Path, tmp_path: Path) -> None:
    folder = RunFolder(root=run / "run")
    export_bundle(folder, trial_with_exits(folder), tmp_path / "small")
    card = (tmp_path / "small" / "README.md").read_text()
    assert "| exit | samples | latency (ms) |" in card
    assert "| 2.00% |" in card
    assert "validation samples, one by one: mean" in card

    def exit_at(threshold: str) -> str:
        command = [sys.executable, str(tmp_path / "small" / "example.py"), threshold]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout

    assert "at exit 0" in exit_at("0")
    assert "at exit 1" in exit_at("inf")
    command = [sys.executable, str(tmp_path / "small" / "example.py"), "1.5"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr == "0 <= threshold <= 1 must hold, or inf for no exit, but got 1.5\n"


def test_show_prints_the_rate_of_each_exit(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command: Command = command_in(monkeypatch, capfd)
    trial = trial_with_exits(RunFolder(root=run / "run"))
    shown = command("show", run / "run", "--trial", trial)
    assert "\nexits: " in shown.out and "\nmean " in shown.out
    assert "p95" in shown.out
    assert "real samples; forecast by the rates" in shown.out


def test_exit_points_are_on_the_front_and_ship_their_thresholds(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run / "run", tmp_path / "run")
    folder = RunFolder(root=tmp_path / "run")
    trial = trial_with_exits(folder)
    never = with_a_point_that_never_exits(folder, trial)
    front = read_front(folder)
    assert front.columns[:2] == ("trial", "exit_point")
    assert f"{trial}/5" in [member.label for member in front.members]
    rows = front.to_rows()
    assert {(row["trial"], row["exit_point"]) for row in rows[:-1]} == {(p.trial, p.exit_point) for p in front.members}
    command: Command = command_in(monkeypatch, capfd)
    assert command("show", folder.root).code == 0
    drawn = command("plot", folder.root)
    assert (drawn.code, drawn.err) == (0, "")
    exported = command("export", folder.root, "--best", "latency_ms", "--out", tmp_path / "point")
    assert (exported.code, exported.err) == (0, "")
    metrics = json.loads((tmp_path / "point" / "metrics.json").read_text())
    assert (metrics["exit_point"], metrics["measured"]["accuracy"]) == (5, never.figures["accuracy"])
    assert f"trial {trial}, exit point 5" in (tmp_path / "point" / "README.md").read_text()
    assert measure(tmp_path / "point" / "model.onnx", run / "study")["exit_rates"] == (0.0, 1.0)
    refused = command("export", folder.root, "--trial", trial, "--exit-point", 9, "--out", tmp_path / "none")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    page = report_page(folder)
    assert "Early exits</h3>" in page
    assert f'"{trial}/5"' in page
    assert f"<summary>Trial {trial}, exit point 5" in page
    card = page.split(f"<summary>Trial {trial}, exit point 5")[1].split("</details>")[0]
    assert "(2 of 3 right)" in card, "the confusion matrix is that of the point"


def test_members_at_exit_points_of_one_trial_are_confirmed_with_their_own_thresholds(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "run", tmp_path / "run")
    folder = RunFolder(root=tmp_path / "run")
    trial = trial_with_exits(folder)
    with_a_point_that_never_exits(folder, trial)
    points = [Point(trial=trial, figures={}), Point(trial=trial, figures={}, exit_point=5)]
    with quick_and_apart():
        found = confirm_run(folder, points, seeds=1)
    assert [(row.trial, row.exit_point, row.seeds) for row in found.rows] == [(trial, None, 1), (trial, 5, 1)]
    own, never = found.rows
    assert found == read_confirmation(folder)
    assert "exit_point" in found.columns and never.label == f"{trial}/5"
    assert never.validation_search == 1.0
    assert len(list((folder.root / "confirm" / str(trial)).iterdir())) == 1, "one training for both"
    tested = read_test_figures(folder)
    model = f"trials/{trial}/model.onnx"
    assert tested[model][1] != tested[f"{model}@5"][1]
    assert (own.test_shipped, never.test_shipped) == (tested[model][0], tested[f"{model}@5"][0])
    assert not [line for line in verify_files(folder).problems if "confirm" in line]
    assert f"<td>{trial}/5</td>" in report_page(folder)
    (place,) = (folder.root / "confirm" / str(trial)).iterdir()
    known = read_repetition(folder, place)
    assert known is not None and known[0].measured is not None and known[0].measured.exits is not None
    older = replace(known[0].measured, exits=replace(known[0].measured.exits, points=()))
    write_repetition(place, replace(known[0], measured=older), files=known[1])
    with pytest.raises(RequestError, match=r"exit point that may lose .* delete this folder to train it again$"):
        confirm_run(folder, points, seeds=2)
    assert list(place.parent.iterdir()) == [place], "refused before any training"


def with_a_point_that_never_exits(folder: RunFolder, trial: int) -> OperatingPoint:
    """Add a point to the record of a trial that is on the front because of its invented latency."""
    record = read_record(folder, trial)
    assert record is not None
    measured = record.outcome.measured
    assert measured is not None
    assert measured.exits is not None
    rows = ("1 1", "0 1")
    figures = {"accuracy": 1.0, "macs": 9, "latency_ms": 1e-3, "latency_p95_ms": 2e-3}
    never = replace(measured.exits.points[0], thresholds=(None,), rates=(0.0, 1.0), figures=figures, confusion=rows)
    exits = replace(measured.exits, points=(*measured.exits.points, never))
    write_record(folder, replace(record, outcome=replace(record.outcome, measured=replace(measured, exits=exits))))
    return never
