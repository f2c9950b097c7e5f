"""The commands on one finished run: output and files of the run folder."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from image_files import file_accuracy
from nas_compress.cli.list_names import KINDS
from nas_compress.cli.main import commands
from nas_compress.data.load_dataset import load_dataset
from nas_compress.files import read_sealed_json
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.runs.versions import trial_words
from running import SPACE, Command, change_record, shared_cache, snapshot, write_study

FIGURES = ["trial", "accuracy", "latency_ms", "size_bytes", "parameters", "macs", "epochs_spent", "model"]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_front_csv_keeps_its_columns_and_names_files_that_are_there(finished: Path) -> None:
    run = finished / "run"
    header = (run / "front.csv").read_text().splitlines()[0].split(",")
    assert header == [*FIGURES, "number_format", "family", "width_multiplier"]
    rows = read_csv(run / "front.csv")
    assert len(rows) >= 2
    assert [row["trial"] for row in rows].index("teacher") == len(rows) - 1
    assert all(not Path(row["model"]).is_absolute() and (run / row["model"]).is_file() for row in rows)
    assert all((run / row["model"]).stat().st_size == int(row["size_bytes"]) for row in rows)


def test_every_front_file_measures_to_its_recorded_accuracy(finished: Path) -> None:
    data = load_dataset(name="digits", seed=0, train_samples=200).validation
    for row in read_csv(finished / "run" / "front.csv"):
        path = finished / "run" / row["model"]
        assert file_accuracy(path, data.inputs["input"].numpy(), data.targets["label"].numpy()) == float(
            row["accuracy"]
        )


def test_every_trial_has_its_files(finished: Path) -> None:
    folders = sorted((finished / "run" / "trials").iterdir(), key=lambda path: int(path.name))
    assert [path.name for path in folders] == ["0", "1", "2", "3", "4"]
    for folder in folders:
        record = json.loads((folder / "outcome.json").read_text())
        assert record["trial"] == int(folder.name)
        trained = record["outcome"]["state"] == "trained"
        assert (record["model"] != "") == trained
        assert not trained or (finished / "run" / record["model"]).is_file()
        if record["repeats"] is None:
            assert read_sealed_json(folder / "candidate.json") == record["outcome"]["candidate"]
            files = {"candidate.json", "outcome.json"} | ({"model.onnx"} if trained else set())
            assert {path.name for path in folder.iterdir()} == files


def test_status_counts_what_the_records_say(command: Command, finished: Path) -> None:
    told = json.loads(command("status", finished / "run", "--json").out)
    records = [json.loads(path.read_text()) for path in (finished / "run" / "trials").glob("*/outcome.json")]
    over = [record for record in records if record["outcome"]["state"] == "over_budget" and record["repeats"] is None]
    assert over, "the seed must draw a candidate over budget"
    assert told["trials"] == told["planned"] == sum(told["states"].values()) == 5
    assert told["states"]["over_budget"] == len(over)
    plain = command("status", finished / "run")
    assert plain.code == 0
    assert plain.out.startswith("tiny: 5 of 5 trials (")
    assert f"{len(over)} over budget" in plain.out


def test_several_versions_and_ignored_folders_are_named(command: Command, finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished / "run", tmp_path / "run")
    assert "versions" not in command("status", run).out + command("show", run).out
    for trial in range(2):
        change_record(run, trial, lambda record: record["versions"].update(torch="1.0"))
    shutil.copytree(run / "trials" / "0", run / "trials" / "0 copy")
    records = [record for record in read_records(RunFolder(root=run)) if record.repeats is None]
    later = trial_words(record.trial for record in records if record.trial > 1)
    line = f"made under several versions: torch 1.0 for trials 0 to 1; torch {torch.__version__} for {later}"
    for name in ("status", "show"):
        answer = command(name, run)
        assert line in answer.out.splitlines()
        assert answer.err == "nas-compress: trials/0 copy is no trial folder and is ignored\n"
    values = json.loads(command("status", run, "--json").out)
    assert [group["versions"]["torch"] for group in values["versions"]] == ["1.0", torch.__version__]
    rows = json.loads(command("show", run, "--json").out)
    known = {record.trial: record.versions for record in records}
    assert all(row["versions"] == known.get(row["trial"]) for row in rows)
    assert command("report", run, "--out", tmp_path / "page.html").code == 0
    assert line in (tmp_path / "page.html").read_text()


def test_show_prints_the_front_and_the_teacher(command: Command, finished: Path) -> None:
    rows = json.loads(command("show", finished / "run", "--json").out)
    table = read_csv(finished / "run" / "front.csv")
    assert [str(row["trial"]) for row in rows] == [row["trial"] for row in table]
    assert [row["accuracy"] for row in rows] == [float(row["accuracy"]) for row in table]
    assert [row["epochs_spent"] for row in rows] == [1] * (len(rows) - 1) + [2]  # a trial's, and the teacher's own
    summary = json.loads((finished / "run" / "front.json").read_text())
    compared = {member["trial"]: member["float32_latency_ms"] for member in summary["members"]}
    assert {row["trial"]: row["float32_latency_ms"] for row in rows[:-1]} == compared
    records = [json.loads(path.read_text()) for path in (finished / "run" / "trials").glob("*/outcome.json")]
    measured = {record["trial"]: record["outcome"]["measured"] for record in records}
    assert all(measured[trial]["float32_latency_ms"] == latency for trial, latency in compared.items())
    plain = command("show", finished / "run").out.splitlines()
    assert "epochs_spent" in plain[0]
    assert len(plain) == len(table) + 1
    assert plain[-1].startswith("teacher")


def test_show_prints_one_trial_with_its_bytes_step_by_step(command: Command, finished: Path) -> None:
    run = finished / "run"
    (first, *_), teacher = read_csv(run / "front.csv"), read_csv(run / "front.csv")[-1]
    told = json.loads(command("show", run, "--trial", first["trial"], "--json").out)
    assert told["measured"]["accuracy"] == float(first["accuracy"])
    steps = told["bytes"]
    assert list(steps) == ["the teacher, float32", "this file", "compressed"]
    assert [str(steps["the teacher, float32"]), str(steps["this file"])] == [teacher["size_bytes"], first["size_bytes"]]
    assert 0 < steps["compressed"] < steps["this file"]
    lines = command("show", run, "--trial", first["trial"]).out.splitlines()
    assert lines[0] == f"trial {first['trial']}, {first['model']}, {first['number_format']}"
    assert f"{int(first['size_bytes']):,}" in lines[-2].split()
    refused = command("show", run, "--trial", 0, "--best", "accuracy")
    assert refused.code == 2 and "--trial must be given alone" in refused.line


def test_show_prints_only_the_chosen_members(command: Command, finished: Path) -> None:
    rows = read_csv(finished / "run" / "front.csv")[:-1]
    quick = min(rows, key=lambda row: float(row["latency_ms"]))
    one = json.loads(command("show", finished / "run", "--best", "latency_ms", "--json").out)
    assert [str(row["trial"]) for row in one] == [quick["trial"], "teacher"]
    kept = [row["trial"] for row in rows if int(row["size_bytes"]) <= int(quick["size_bytes"])]
    where = command("show", finished / "run", "--where", f"size_bytes<={quick['size_bytes']}", "--json")
    assert [str(row["trial"]) for row in json.loads(where.out)] == [*kept, "teacher"]


def test_export_takes_the_knee_or_several(command: Command, finished: Path, tmp_path: Path) -> None:
    run, knee = finished / "run", json.loads((finished / "run" / "front.json").read_text())["knee"]
    assert command("export", run, "--out", tmp_path / "knee").out.split() == [str(tmp_path / "knee")]
    expected = (run / "trials" / str(knee) / "model.onnx").read_bytes()
    assert (tmp_path / "knee" / "model.onnx").read_bytes() == expected
    members = [row["trial"] for row in read_csv(run / "front.csv")[:-1]]
    assert command("export", run, "--all", "--out", tmp_path / "all").out.split() == [
        str(tmp_path / "all" / f"trial-{trial}") for trial in members
    ]
    assert {path.name for path in (tmp_path / "all").iterdir()} == {f"trial-{trial}" for trial in members}
    again = command("export", run, "--all", "--out", tmp_path / "all")
    assert again.code == 2
    assert "new or empty folder" in again.line


def test_plot_writes_to_the_given_path(command: Command, finished: Path, tmp_path: Path) -> None:
    before = snapshot(finished)
    answer = command("plot", finished / "run", "--out", tmp_path / "front.svg")
    assert answer.out.splitlines() == [str(tmp_path / "front.svg"), str(tmp_path / "front-hypervolume.svg")]
    assert (tmp_path / "front.svg").read_text().lstrip().startswith("<?xml")
    assert snapshot(finished) == before
    wrong = command("plot", finished / "run", "--out", tmp_path / "front.doc")
    assert wrong.code == 2
    assert "front.doc" in wrong.line


def test_a_run_prints_its_progress_in_lines(command: Command, tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    answer = command("run", "study", "--trials", 2)
    assert answer.code == 0
    lines = answer.err.splitlines()
    assert [line for line in lines if line.startswith("teacher: accuracy")]
    assert [line.split(":")[0] for line in lines if line.startswith("[")] == ["[1/2] trial 0", "[2/2] trial 1"]
    assert lines[-1] == "front: runs/tiny/front.png"
    assert Path("runs/tiny/front.png").read_bytes().startswith(b"\x89PNG")
    again = command("run", "study", "--trials", 1)
    assert again.code == 0
    assert "nothing to do: 2 trials are finished, the total asked for is 1" in again.err
    assert again.out == command("show", "tiny").out  # the first table, but for latencies taken in a slow moment
    assert again.out.splitlines()[0] == answer.out.splitlines()[0]
    assert command("status", "tiny").out.startswith("tiny: 2 of 2 trials (")


def test_status_prints_the_reason_of_a_failure(command: Command, tmp_path: Path) -> None:
    space = SPACE.replace("import Candidate", "import Candidate, LossTerm").replace(
        "width_multiplier=width", 'losses=(LossTerm(name="cross_entropy", weight=1e39),)'
    )
    write_study(tmp_path / "study", space=space)
    answer = command("run", "study", "--trials", 1)
    assert answer.code == 0
    assert "[1/1] trial 0: failed: NonFiniteLossError" in answer.err
    plain = command("status", "tiny").out
    assert "tiny: 1 of 1 trials (1 failed), front of 0" in plain
    assert "trial 0 failed: NonFiniteLossError: every loss term must be finite" in plain
    assert json.loads(command("status", "tiny", "--json").out)["failures"].keys() == {"0"}
    refused = command("export", "tiny", "--trial", 0, "--out", "bundle")
    assert refused.code == 2
    assert "trial 0 ended as failed: NonFiniteLossError" in refused.line
    assert "front members" in command("export", "tiny", "--best", "accuracy", "--out", "bundle").line


def test_check_prints_a_table_and_writes_nothing(command: Command, tmp_path: Path) -> None:
    write_study(tmp_path / "study", extra="[budgets.size_bytes]\nat_most = 30000\n[budgets.accuracy]\nat_least = 0.5\n")
    before = snapshot(tmp_path, shared_cache())
    answer = command("check", "study")
    assert answer.code == 0, answer
    assert answer.err == f"loads space.py (suggest) from {tmp_path / 'study'}\n"
    assert snapshot(tmp_path, shared_cache()) == before
    assert answer.out.startswith("tiny: 8 points in space space; digits with 200 training")
    lines = answer.out.splitlines()
    for row in ("smallest", "middle", "largest", "teacher", "expected: "):
        assert [line for line in lines if line.startswith(row)], row
    (size,) = [line for line in lines if line.startswith("file size ≤ 30 kB")]
    assert re.search(r"within reach +[\d.]+ kB +\d+% \(\d of 8 candidates, by their weights alone\)", size)
    assert [line for line in lines if line.startswith("accuracy ≥ 50 %") and "known after training" in line]


def test_measure_agrees_with_the_record(command: Command, finished: Path) -> None:
    row = read_csv(finished / "run" / "front.csv")[0]
    arguments = ("measure", finished / "run" / row["model"], "--study", finished / "study")
    told = json.loads(command(*arguments).out)
    assert told["split"] == "validation"
    assert told["accuracy"] == float(row["accuracy"])
    assert told["size_bytes"] == int(row["size_bytes"])
    assert told["latency_ms"] > 0
    held_out = command(*arguments, "--split", "test")
    assert held_out.code == 0
    assert json.loads(held_out.out)["samples"] == len(load_dataset(name="digits", seed=0).test)


@pytest.mark.parametrize("kind", KINDS)
def test_list_prints_every_name(kind: str, command: Command) -> None:
    rows = json.loads(command("list", kind, "--json").out)
    assert rows
    plain = command("list", kind).out.splitlines()
    assert len(plain) == len(rows) + 1
    assert plain[0].split() == list(rows[0])
    for row, line in zip(rows, plain[1:], strict=True):
        assert str(next(iter(row.values()))) in line


@pytest.mark.parametrize("name", sorted(commands.commands))
def test_every_help_has_an_example_of_its_command(name: str, command: Command) -> None:
    answer = command(name, "--help")
    assert answer.code == 0
    assert f"Example: nas-compress {name} " in " ".join(answer.out.split())


def test_help_without_arguments_and_version(command: Command) -> None:
    assert "Example: nas-compress run digits" in command("--help").out
    assert command("--version").out.startswith("nas-compress, version 0.1.0")


def test_a_run_may_be_moved(command: Command, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "runs" / "moved")
    assert command("show", "moved").out == command("show", finished / "run").out
    assert np.isfinite(json.loads(command("status", "moved", "--json").out)["hypervolume"])
