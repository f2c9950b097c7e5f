"""Conditions of latencies through whole studies: measured, kept apart, and named wherever a latency is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_device import BYTES_PER_MS, FakeDevice
from nas_compress.config.study_file import read_study
from nas_compress.devices import table
from nas_compress.devices.onnxruntime_cpu.machine import usable_cores
from nas_compress.devices.table import DEVICES, DeviceEntry
from nas_compress.errors import RequestError
from nas_compress.plots.pareto import front_picture
from nas_compress.report.page import report_page
from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_baseline, read_records
from nas_compress.runs.results import read_front
from nas_compress.search.measure import measure
from nas_compress.search.preflight.budget_coverage import budget_shares
from nas_compress.search.preflight.feasibility import draw_candidates
from nas_compress.search.remeasure import measure_again
from nas_compress.search.run import run_study
from nas_compress.search.setup import gather
from running import Command, Told, command_in, snapshot, write_study

TARGET = '[target]\nname = "fake"\nbatch = 4\nthreads = 2\npercentile = "p95"\n'
WORDS = "batch of 4, 2 threads, p95"
NAMED = ('name = "tiny"\n', 'name = "tiny"\nobjectives = ["accuracy", "samples_per_s"]\n')
CPU = '[target]\nbatch = 4\npercentile = "mean"\n[budgets.samples_per_s]\nat_least = 1.0\n'


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = DeviceEntry(
        summary="fake", make=lambda settings: FakeDevice(settings=settings), integer_caution=lambda machine: ""
    )
    monkeypatch.setattr(table, "DEVICES", {**DEVICES, "fake": entry})


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command_in(monkeypatch, capfd)


def test_figures_follow_the_conditions_and_every_output_names_them(tmp_path: Path, command: Command) -> None:
    told = Told()
    front = run_study(write_study(tmp_path / "s", NAMED, extra=TARGET), out=tmp_path / "run", trials=2, reporter=told)
    assert f"latency of the study: {WORDS}" in told.lines
    folder = RunFolder(root=tmp_path / "run")
    records, teacher = read_records(folder), read_baseline(folder)
    assert [record.outcome.state for record in records] == ["trained", "trained"] and teacher is not None
    for measured in [teacher, *(record.outcome.measured for record in records)]:
        assert measured is not None
        latency = measured.figures["latency_ms"]
        assert latency == pytest.approx(measured.figures["size_bytes"] / BYTES_PER_MS * 4 / 2)
        assert measured.figures["samples_per_s"] == pytest.approx(4000 / latency)
    smaller, larger = sorted(records, key=lambda record: record.outcome.measured.figures["latency_ms"])
    by_trial = {point.trial: point.figure("samples_per_s") for point in front.points}
    assert by_trial[smaller.trial] >= by_trial[larger.trial]
    assert dict(front.reference or ())["samples_per_s"] == teacher.figures["samples_per_s"]

    assert json.loads(folder.marker.read_text())["machine"]["conditions"] == WORDS
    header, *rows = (folder.root / "front.csv").read_text().splitlines()
    assert "latency_ms,samples_per_s,size_bytes" in header and header.count("conditions") == 1
    assert all(WORDS in row for row in rows)
    assert json.loads((folder.root / "front.json").read_text())["conditions"] == WORDS
    picture = front_picture(front, title="").figure
    assert WORDS in picture.axes[0].get_xlabel() and picture.axes[0].get_xlabel().endswith("better \u2192")
    assert any(f"Latency: {WORDS}." in text.get_text() for text in picture.texts)
    page = report_page(folder)
    assert f"on none ({WORDS})" in page and page.count(WORDS) >= 3
    best = front.members[0].trial
    export_bundle(folder, int(best), tmp_path / "bundle")
    assert f"Latency: {WORDS}, on" in (tmp_path / "bundle" / "README.md").read_text()
    assert "| samples_per_s |" in (tmp_path / "bundle" / "README.md").read_text()
    assert json.loads((tmp_path / "bundle" / "metrics.json").read_text())["machine"]["conditions"] == WORDS
    for arguments in (["show"], ["status"], ["show", "--trial", best]):
        name, *others = arguments
        assert f"latency: {WORDS}" in command(name, folder.root, *others).out
        assert WORDS in command(name, folder.root, *others, "--json").out
    found = command("show", folder.root, "--best", "samples_per_s", "--where", "samples_per_s>=1").out
    assert f"latency: {WORDS}" in found
    assert measure(folder.root / str(smaller.model), tmp_path / "s")["conditions"] == WORDS


def test_a_study_without_conditions_shows_none_and_counts_no_samples(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", ('name = "tiny"\n', 'name = "tiny"\ntarget = "fake"\n'))
    front = run_study(study, out=tmp_path / "run", trials=1)
    folder = RunFolder(root=tmp_path / "run")
    (record,) = read_records(folder)
    assert record.outcome.measured is not None and "samples_per_s" not in record.outcome.measured.figures
    texts = [path.read_text() for path in folder.root.iterdir() if path.suffix in (".json", ".csv", ".log")]
    assert not any("conditions" in text or "samples_per_s" in text for text in texts)
    assert front_picture(front, title="").figure.axes[0].get_xlabel() == "\u2190 better   latency (ms, batch of 1)"
    export_bundle(folder, 0, tmp_path / "bundle")
    assert "Latency: batch 1, one thread, on" in (tmp_path / "bundle" / "README.md").read_text()


def test_samples_per_second_of_one_sample_are_those_of_its_latency(tmp_path: Path) -> None:
    run_study(write_study(tmp_path / "s", NAMED), out=tmp_path / "run", trials=1)
    (record,) = read_records(RunFolder(root=tmp_path / "run"))
    figures = record.outcome.measured.figures  # type: ignore[union-attr]
    assert figures["samples_per_s"] == 1000 / figures["latency_ms"]


@pytest.mark.slow
def test_a_study_on_this_machine_searches_by_samples_per_second(tmp_path: Path) -> None:
    study = write_study(
        tmp_path / "s", NAMED, ('sampler = "random"', 'sampler = "ehvi"\nstartup_trials = 2'), extra=CPU
    )
    front = run_study(study, out=tmp_path / "run", trials=4)
    folder = RunFolder(root=tmp_path / "run")
    records = read_records(folder)
    assert {record.outcome.state for record in records} == {"trained"} and front.members
    for record in records:
        figures = record.outcome.measured.figures  # type: ignore[union-attr]
        assert figures["samples_per_s"] == 4000 / figures["latency_ms"]
        assert record.outcome.reason is None
    assert read_front(folder).conditions == "batch of 4, mean"
    again = measure_again(
        folder, records[:1], FakeDevice(settings=gather(read_study(study)).target.settings), (), sizes={}
    )
    for outcome in again.values():
        figures = outcome.measured.figures  # type: ignore[union-attr]
        assert figures["samples_per_s"] == 4000 / figures["latency_ms"]


def test_a_budget_of_samples_per_second_ends_trials_before_training(tmp_path: Path) -> None:
    parts = gather(read_study(write_study(tmp_path / "a", extra=TARGET)))
    sized, _ = draw_candidates(parts)
    small, large = (each.weight_bytes * 4 / 2 / BYTES_PER_MS for each in (sized[0], sized[-1]))
    limit = 4000 / ((small * large) ** 0.5)
    extra = f"{TARGET}[budgets.samples_per_s]\nat_least = {limit}\n"
    study = write_study(tmp_path / "b", ("trials = 3", "trials = 6"), extra=extra)
    run_study(study, out=tmp_path / "run")
    records = read_records(RunFolder(root=tmp_path / "run"))
    for record in records:
        rate = record.outcome.measured.figures["samples_per_s"]  # type: ignore[union-attr]
        assert (record.outcome.state == "trained") == (rate >= limit)
    assert {record.outcome.state for record in records} == {"trained", "over_budget"}
    (share,) = budget_shares(gather(read_study(study)), sized)
    assert 0 < share.kept < share.counted and share.how == "timed"


def test_a_budget_out_of_reach_is_refused_with_the_best_rate(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", extra=TARGET + "[budgets.samples_per_s]\nat_least = 1e15\n")
    with pytest.raises(
        RequestError, match=r"budgets.samples_per_s is at_least 1e\+15 and the smallest candidate .* has"
    ):
        run_study(study, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_conditions_are_another_study_and_nothing_is_lost(tmp_path: Path) -> None:
    run_study(write_study(tmp_path / "s", extra=TARGET), out=tmp_path / "run", trials=1)
    before = snapshot(tmp_path / "run")
    for other in (TARGET.replace("batch = 4", "batch = 2"), TARGET.split("batch")[0]):
        study = write_study(tmp_path / "s", extra=other)
        with pytest.raises(RequestError, match=r"these keys differ: target.*; restore them") as caught:
            run_study(study, out=tmp_path / "run", trials=2)
        assert "\n" not in str(caught.value)
        after = snapshot(tmp_path / "run")
        changed = {path for path in before if before[path] != after.get(path)}
        assert {Path(path).name for path in changed} <= {"run.log", ".lock"}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("threads = 0", ["target.threads", "greater than 0"]),
        (f"threads = {usable_cores() + 1}", ["threads <=", "the cores of this machine", "(study.toml: target)"]),
        ("batch = 0", ["target.batch", "greater than 0"]),
        ('percentile = "p42"', ["percentile must be a known name", "'p42'"]),
        ('providers = ["CUDA"]', ["a provider must be a known name", "'CUDA'", "CPUExecutionProvider"]),
        ('name = "toaster"', ["a target device must be a known name", "'toaster'", "(study.toml: target)"]),
    ],
)
def test_bad_conditions_are_refused_in_one_line(
    target: str, words: list[str], tmp_path: Path, command: Command
) -> None:
    write_study(tmp_path / "study", extra=f"[target]\n{target}\n")
    for name in ("run", "check"):
        answer = command(name, tmp_path / "study")
        assert answer.code == 2 and all(word in answer.line for word in words), answer
    assert not (tmp_path / "runs").exists()
