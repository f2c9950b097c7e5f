"""Several devices in one study: figures, budgets and axes under their names; a lost one costs no trial."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest

from fake_device import BYTES_PER_MS, FakeDevice
from nas_compress.config.study_file import read_study
from nas_compress.devices import named, table
from nas_compress.devices.protocol import NO_SIZES, Device, Latency
from nas_compress.devices.table import DEVICES, DeviceEntry
from nas_compress.errors import DeviceLostError, RequestError
from nas_compress.plots.pareto import front_picture
from nas_compress.report.page import report_page
from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_baseline, read_records
from nas_compress.runs.results import read_front
from nas_compress.search.measure import measure
from nas_compress.search.preflight.feasibility import draw_candidates
from nas_compress.search.reporter import Silence
from nas_compress.search.run import run_study
from nas_compress.search.setup import gather
from nas_compress.values.device_settings import DeviceSettings
from running import Command, Told, command_in, snapshot, write_study

SECRET = "user@secret-host"
OBJECTIVES = 'objectives = ["accuracy", "latency_ms", "latency_ms@pi"]'
NAMED = ('name = "tiny"\n', f'name = "tiny"\ntarget = "fake"\n{OBJECTIVES}\n')
PI = f'[device.pi]\nkind = "far"\nbatch = 4\ncommand = ["ssh", "{SECRET}", "agent"]\n'


@dataclass(kw_only=True, eq=False)
class Line:
    """The line to the far device: answers before it is lost, None for always; its own speed and identity."""

    answers: int | None = None
    asked: int = 0
    commands: list[tuple[str, ...]] = field(default_factory=list)
    key: str = "far-key"
    factor: float = 10.0


@dataclass(kw_only=True, eq=False)
class FarDevice(FakeDevice):
    """A slower device that may be lost."""

    line: Line

    @property
    def name(self) -> str:
        return "far"

    @property
    def fingerprint(self) -> str:
        return self.line.key

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "cpu": "a far cpu"}

    def latency(
        self, path: Path, *, sizes: Mapping[str, int] = NO_SIZES, key: str | None = None, patient: bool = False
    ) -> Latency:
        self.line.asked += 1
        if self.line.answers is not None:
            if self.line.answers <= 0:
                raise DeviceLostError("no answer within 1 s")
            self.line.answers -= 1
        found = super().latency(path, sizes=sizes, key=key, patient=patient)
        return Latency(latency_ms=found.latency_ms * self.line.factor, spread=0.1, noisy=False)

    @contextmanager
    def provisional(self) -> Iterator[Device]:
        yield self


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    """A line that always answers, to devices of the kind `far`."""
    made = Line()

    def far(settings: DeviceSettings, command: tuple[str, ...]) -> FarDevice:
        made.commands.append(command)
        return FarDevice(settings=settings, line=made)

    def plain(machine: Mapping[str, Any]) -> str:
        return ""

    kinds = {
        "fake": DeviceEntry(summary="fake", make=lambda settings: FakeDevice(settings=settings), integer_caution=plain),
        "far": DeviceEntry(summary="far", make=None, make_by_command=far, integer_caution=plain),
    }
    for module in (table, named):
        monkeypatch.setattr(module, "DEVICES", {**DEVICES, **kinds})
    return made


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command_in(monkeypatch, capfd)


def _figures(folder: RunFolder) -> list[dict[str, float]]:
    return [dict(record.outcome.measured.figures) for record in read_records(folder)]  # type: ignore[union-attr]


def _texts(*roots: Path) -> str:
    paths = [path for root in roots for path in root.rglob("*") if path.is_file()]
    return "".join(path.read_bytes().decode("utf-8", "ignore") for path in paths)


def test_figures_of_each_device_stand_under_its_name_everywhere(line: Line, tmp_path: Path, command: Command) -> None:
    study = write_study(tmp_path / "s", NAMED, extra=PI)
    told = Told()
    front = run_study(study, out=tmp_path / "run", trials=2, reporter=told)
    assert "device pi: far, batch of 4" in told.lines
    folder = RunFolder(root=tmp_path / "run")
    teacher = read_baseline(folder)
    assert teacher is not None
    for figures in [dict(teacher.figures), *_figures(folder)]:
        one = figures["size_bytes"] / BYTES_PER_MS
        assert figures["latency_ms"] == pytest.approx(one)
        assert figures["latency_ms@pi"] == pytest.approx(one * 4 * line.factor)
        assert figures["samples_per_s@pi"] == pytest.approx(4000 / figures["latency_ms@pi"])
        assert "samples_per_s" not in figures
    about = json.loads(folder.marker.read_text())
    assert about["devices"]["pi"]["key"] == line.key and about["machine"]["device"] == "fake"
    header, *rows = (folder.root / "front.csv").read_text().splitlines()
    assert "latency_ms@pi" in header.split(",") and all("on pi: batch of 4" in row for row in rows)
    words = [axes.get_xlabel() + axes.get_ylabel() for axes in front_picture(front, title="").figure.axes]
    assert any("latency on pi (ms, batch of 4)" in text for text in words)
    assert any("latency (ms, batch of 1)" in text for text in words)
    page = report_page(folder)
    assert "latency on pi (ms, batch of 4)" in page and "a far cpu" in page and "Device pi" in page
    export_bundle(folder, int(front.members[0].trial), tmp_path / "bundle")
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "| latency_ms@pi |" in card and "`pi` is `a far cpu` under `far`" in card.replace("\n", " ")
    for arguments in (["show"], ["status"], ["show", "--trial", 0]):
        name, *others = arguments
        assert "on pi: batch of 4" in command(name, folder.root, *others).out
    asked = line.asked
    assert read_front(folder).members
    found = command("show", folder.root, "--best", "latency_ms@pi", "--where", "latency_ms@pi<=1000")
    assert found.code == 0 and "latency_ms@pi" in found.out
    assert line.asked == asked, "a run is read without its devices"
    model = folder.root / str(front.members[0].model)
    again = json.loads(command("measure", model, "--study", study, "--device", "pi").out)
    assert again["latency_ms@pi"] == front.members[0].figure("latency_ms@pi") and "latency_ms" not in again
    assert "latency_ms@pi" not in measure(model, study)
    verified = json.loads(command("verify", folder.root, "--json").out)
    (note,) = verified["notes"]
    assert note == "device pi is not measured again: its command is in the study only; add --study"
    verified = json.loads(command("verify", folder.root, "--study", study, "--json").out)
    assert verified["problems"] == verified["notes"] == []
    assert all(each["device_latency_ratios"] == {"pi": 1.0} for each in verified["measured"])
    assert "on pi 1.00 to 1.00" in command("verify", folder.root, "--study", study).out
    line.answers = 0
    lost = json.loads(command("verify", folder.root, "--study", study, "--json").out)
    assert lost["problems"] == [] and "device pi: latency not measured" in lost["notes"][0]
    line.answers = None
    assert line.commands and set(line.commands) == {("ssh", SECRET, "agent")}
    assert SECRET not in _texts(folder.root, tmp_path / "bundle") + page + "".join(told.lines)


def test_a_device_that_is_lost_costs_no_trial_and_is_asked_again_later(line: Line, tmp_path: Path) -> None:
    study = write_study(
        tmp_path / "s",
        NAMED,
        ('sampler = "random"', 'sampler = "ehvi"\nstartup_trials = 2'),
        extra=PI + '[budgets."latency_ms@pi"]\nat_most = 1e9\n',
    )
    told, folder = Told(), RunFolder(root=tmp_path / "run")
    line.answers = 6  # enough for the check of the budget, too few for the trials
    front = run_study(study, out=folder.root, trials=4, reporter=told)
    assert any(text.startswith("device pi: latency not measured (no answer within 1 s)") for text in told.lines)
    records = read_records(folder)
    assert {record.outcome.state for record in records} == {"trained"}
    lost = [record.trial for record in records if record.outcome.measured.lacks("latency_ms@pi")]  # type: ignore[union-attr]
    assert lost and not {point.trial for point in front.members} & set(lost)
    reasons = {record.outcome.reason for record in records if record.trial in lost}
    assert reasons == {"latency_ms@pi was not measured"}
    stored = optuna.load_study(study_name="tiny", storage=_storage(folder))
    assert {stored.trials[number].state for number in lost} == {optuna.trial.TrialState.PRUNED}

    line.answers = None
    again = Told()
    front = run_study(study, out=folder.root, trials=4, reporter=again)
    assert not any("not measured" in text for text in again.lines)
    assert not any("journal" in text for text in again.lines), "the records still agree with the storage"
    assert all("latency_ms@pi" in figures for figures in _figures(folder))
    assert {record.outcome.reason for record in read_records(folder)} == {None}
    assert {point.trial for point in front.points} == {0, 1, 2, 3} and front.members
    before = snapshot(folder.root / "trials")
    run_study(study, out=folder.root, trials=4)
    assert snapshot(folder.root / "trials") == before, "nothing is missing any more"


def test_a_device_lost_from_the_start_still_gives_a_run(line: Line, tmp_path: Path, command: Command) -> None:
    study, folder = write_study(tmp_path / "s", NAMED, extra=PI), RunFolder(root=tmp_path / "run")
    line.answers = 0
    front = run_study(study, out=folder.root, trials=2)
    assert not front.members and front.reference is None
    for arguments in (["status", folder.root], ["show", folder.root], ["plot", folder.root], ["report", folder.root]):
        assert command(*arguments).code == 0, arguments
    lost = command("measure", folder.root / "trials/0/model.onnx", "--study", study, "--device", "pi")
    assert lost.code == 1 and "no answer within 1 s" in lost.line
    line.answers = None
    front = run_study(study, out=folder.root, trials=2)
    teacher = read_baseline(folder)
    assert front.members and front.reference is not None and teacher is not None
    assert "latency_ms@pi" in teacher.figures
    assert json.loads(folder.marker.read_text())["devices"]["pi"]["key"] == line.key


def test_a_device_that_answers_later_is_described_before_the_run_ends(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, folder = write_study(tmp_path / "s", NAMED, extra=PI), RunFolder(root=tmp_path / "run")

    def describe(device: FarDevice) -> dict[str, Any]:
        if line.answers == 0:
            raise DeviceLostError("no answer within 1 s")
        return {"device": "far", "key": line.key, "cpu": "a far cpu"}

    class Return(Silence):
        def trial(self, *_: object) -> None:
            line.answers = None

    monkeypatch.setattr(FarDevice, "describe", describe)
    line.answers = 0
    front = run_study(study, out=folder.root, trials=2, reporter=Return())
    assert json.loads(folder.marker.read_text())["devices"]["pi"]["cpu"] == "a far cpu"
    assert front.members and all("latency_ms@pi" in figures for figures in _figures(folder))


def test_a_device_that_was_replaced_while_it_was_lost_is_measured_again(line: Line, tmp_path: Path) -> None:
    study, folder = write_study(tmp_path / "s", NAMED, extra=PI), RunFolder(root=tmp_path / "run")
    run_study(study, out=folder.root, trials=1)

    class Replace(Silence):
        def trial(self, *_: object) -> None:
            line.key, line.factor = "another", 20.0

    run_study(study, out=folder.root, trials=2, reporter=Replace())
    assert json.loads(folder.marker.read_text())["devices"]["pi"]["key"] == "another"
    for point in read_front(folder).members:
        expected = point.figure("size_bytes") / BYTES_PER_MS * 4 * 20
        assert point.figure("latency_ms@pi") == pytest.approx(expected)


def test_figures_of_another_device_under_the_same_name_are_measured_again(line: Line, tmp_path: Path) -> None:
    study, folder = write_study(tmp_path / "s", NAMED, extra=PI), RunFolder(root=tmp_path / "run")
    run_study(study, out=folder.root, trials=2)
    line.key, line.factor = "another", 20.0
    told = Told()
    front = run_study(study, out=folder.root, trials=2, reporter=told)
    assert any("not the same device as before: pi" in text for text in told.lines)
    for point in [*front.members, front.teacher]:
        assert point is not None
        expected = point.figure("size_bytes") / BYTES_PER_MS * 4 * 20
        assert point.figure("latency_ms@pi") == pytest.approx(expected)
        assert point.figure("latency_ms") == pytest.approx(point.figure("size_bytes") / BYTES_PER_MS)
    assert json.loads(folder.marker.read_text())["devices"]["pi"]["key"] == "another"


def test_a_budget_on_a_named_device_ends_trials_before_training(line: Line, tmp_path: Path) -> None:
    sized, _ = draw_candidates(gather(read_study(write_study(tmp_path / "a", NAMED, extra=PI))))
    limit = (sized[0].weight_bytes * sized[-1].weight_bytes) ** 0.5 * 4 * line.factor / BYTES_PER_MS
    extra = PI + '[budgets."latency_ms@pi"]\nat_most = {}\n'
    run_study(write_study(tmp_path / "b", NAMED, extra=extra.format(limit)), out=tmp_path / "run", trials=4)
    records = read_records(RunFolder(root=tmp_path / "run"))
    for record in records:
        over = record.outcome.measured.figures["latency_ms@pi"] > limit  # type: ignore[union-attr]
        assert (record.outcome.state == "over_budget") == over
    assert {record.outcome.state for record in records} == {"trained", "over_budget"}
    with pytest.raises(RequestError, match=r"budgets.latency_ms@pi is at_most 1e-09 and the smallest candidate"):
        run_study(write_study(tmp_path / "c", NAMED, extra=extra.format(1e-9)), out=tmp_path / "c-run")


def test_a_check_with_a_lost_device_says_so(line: Line, tmp_path: Path, command: Command) -> None:
    study = write_study(tmp_path / "s", NAMED, extra=PI + '[budgets."latency_ms@pi"]\nat_most = 1000\n')
    line.answers = 0
    answer = command("check", study)
    assert answer.code == 0 and "latency on pi: batch of 4" in answer.out, answer
    assert "not measured: pi is lost" in answer.out and "device pi: latency not measured" in answer.err


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ('[device.pi]\nkind = "toaster"\n', ["kind must be a known name", "'toaster'", "study.toml: device.pi"]),
        ('[device.pi]\nkind = "far"\n', ["must have a command", "study.toml: device.pi"]),
        ('[device.pi]\nkind = "fake"\ncommand = ["x"]\n', ["a command must start the agent", "device.pi"]),
        ('[device.pi]\nkind = "fake"\nthreads = 0\n', ["device.pi.threads", "greater than 0"]),
        ('[device.pi]\nkind = "fake"\nthread = 2\n', ["device.pi.thread", "'threads'"]),
        ('[device."a b"]\nkind = "fake"\n', ["device.a b", "should match pattern"]),
        ('[device.other]\nkind = "fake"\n', ["latency_ms@pi", "a device that the study names", "valid are other"]),
        ("", ["latency_ms@pi", "add [device.pi]"]),
        (
            '[device.pi]\nkind = "fake"\n[budgets."size_bytes@pi"]\nat_most = 9\n',
            ["a key of budgets on a device must be latency_ms, latency_p95_ms, samples_per_s", "size_bytes@pi"],
        ),
    ],
)
def test_a_bad_device_is_refused_in_one_line(
    extra: str, words: list[str], line: Line, tmp_path: Path, command: Command
) -> None:
    write_study(tmp_path / "study", NAMED, extra=extra)
    answer = command("run", tmp_path / "study")
    assert answer.code == 2 and all(word in answer.line for word in words), answer
    assert not (tmp_path / "runs").exists()


def test_an_unknown_device_of_a_measurement_is_refused(line: Line, tmp_path: Path, command: Command) -> None:
    study = write_study(tmp_path / "s", NAMED, extra=PI)
    (tmp_path / "model.onnx").write_bytes(b"")
    answer = command("measure", tmp_path / "model.onnx", "--study", study, "--device", "pie")
    assert answer.code == 2 and "did you mean 'pi'?" in answer.line


def test_a_study_without_named_devices_keeps_its_identity(tmp_path: Path) -> None:
    from nas_compress.search.storage.optuna_storage import study_identity

    spec = read_study(write_study(tmp_path / "s")).spec
    assert "devices" not in study_identity(spec, space_hash="", data_fingerprint="")
    with_pi = read_study(write_study(tmp_path / "t", NAMED, extra=PI)).spec
    identity = study_identity(with_pi, space_hash="", data_fingerprint="")
    assert identity["devices"]["pi"]["batch"] == 4 and SECRET not in json.dumps(identity)


def _storage(folder: RunFolder) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(folder.journal)))
