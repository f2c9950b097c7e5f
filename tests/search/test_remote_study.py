"""A study with a device that is reached by a command: a real agent as a process of this machine."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from signal import SIGKILL

import pytest

from dying import Death, run_and_die
from nas_compress.devices.remote.agent_file import write_agent
from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_baseline, read_records
from nas_compress.runs.results import read_front
from nas_compress.search.run import run_study
from remote_devices import changed_agent, measure_quickly
from running import Command, Told, command_in, write_study
from running import own_cache as own_cache

SECRET = "alice-at-secret-host"
OBJECTIVES = ('name = "tiny"\n', 'name = "tiny"\nobjectives = ["accuracy", "latency_ms", "latency_ms@pi"]\n')
WITHOUT_HOST_KEY = (
    "import sys; sys.exit('No host key is known for alice-at-secret-host.\\nHost key verification failed.')"
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_quickly(monkeypatch)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command_in(monkeypatch, capfd)


def pi(*words: str) -> str:
    return f"[device.pi]\ncommand = {json.dumps([sys.executable, *words])}\n"


def agent_in(folder: Path) -> str:
    folder.mkdir()
    write_agent(folder / "agent.py")
    return str(folder / "agent.py")


def bytes_of(*roots: Path) -> bytes:
    return b"".join(path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file())


def test_its_latency_is_an_objective_and_its_command_is_nowhere(tmp_path: Path, command: Command) -> None:
    study = write_study(tmp_path / "s", OBJECTIVES, extra=pi(agent_in(tmp_path / SECRET)))
    told, folder = Told(), RunFolder(root=tmp_path / "run")
    run_study(study, out=folder.root, trials=2, reporter=told)
    teacher, records = read_baseline(folder), read_records(folder)
    assert teacher is not None
    for measured in (teacher, *(record.outcome.measured for record in records)):
        assert measured is not None and measured.figure("latency_ms@pi") > 0
    about = json.loads(folder.marker.read_text())
    assert about["devices"]["pi"]["device"] == about["study"]["devices"]["pi"]["kind"] == "remote"
    assert about["devices"]["pi"]["cpu"] == about["machine"]["cpu"] and "host" not in about["devices"]["pi"]
    export_bundle(folder, int(read_front(folder).members[0].trial), tmp_path / "bundle")
    for arguments in (["report", folder.root], ["show", folder.root], ["verify", folder.root]):
        assert command(*arguments).code == 0, arguments
    model = folder.root / str(read_front(folder).members[0].model)
    found = json.loads(command("measure", model, "--study", study, "--device", "pi").out)
    assert found["latency_ms@pi"] > 0
    assert SECRET.encode() not in bytes_of(folder.root, tmp_path / "bundle", tmp_path / ".nas_compress")
    assert SECRET not in "".join(told.lines)


def test_an_unknown_host_key_costs_no_trial_and_is_one_line(tmp_path: Path, command: Command) -> None:
    study = write_study(tmp_path / "s", OBJECTIVES, extra=pi("-c", WITHOUT_HOST_KEY))
    told, folder = Told(), RunFolder(root=tmp_path / "run")
    run_study(study, out=folder.root, trials=2, reporter=told)
    (line,) = [line for line in told.lines if "latency not measured" in line]
    reason = "the device did not answer: its host key is not known to ssh; connect once in a terminal and accept it"
    assert reason in line
    records = read_records(folder)
    assert {record.outcome.state for record in records} == {"trained"}
    assert all(record.outcome.measured.lacks("latency_ms@pi") for record in records)  # type: ignore[union-attr]
    answer = command("measure", folder.root / str(records[0].model), "--study", study, "--device", "pi")
    assert (answer.code, answer.line) == (1, f"nas-compress: device pi: {reason}")
    assert SECRET.encode() not in bytes_of(folder.root) and SECRET not in "".join(told.lines)

    write_study(tmp_path / "s", OBJECTIVES, extra=pi(agent_in(tmp_path / "agent")))
    front = run_study(study, out=folder.root, trials=2)
    assert front.members and all(not r.outcome.measured.lacks("latency_ms@pi") for r in read_records(folder))  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_killed_run_leaves_no_agent_and_continues(tmp_path: Path) -> None:
    log = tmp_path / "starts"
    counted = (
        f"import atexit\nlog = open({str(log)!r}, 'a', buffering=1)\nlog.write('+')\natexit.register(log.write, '-')\n"
    )
    agent = changed_agent(tmp_path, counted)
    study = write_study(tmp_path / "s", OBJECTIVES, extra=pi(*agent[1:]))
    death = Death(module="nas_compress.search.ask_and_tell", function="write_record", call=2)
    arguments = ["run", study, "--out", tmp_path / "run", "--workers", 1]
    assert run_and_die(arguments, death, cwd=tmp_path, cache=tmp_path / "cache", log=tmp_path / "log") == -SIGKILL
    folder, end = RunFolder(root=tmp_path / "run"), time.monotonic() + 300
    assert len(read_records(folder)) in (1, 2)
    while log.read_text() != "+-":
        assert time.monotonic() < end, "the agent of a killed run still runs"
        time.sleep(0.01)
    front = run_study(study, out=folder.root, trials=3)
    assert {point.trial for point in front.points} == {0, 1, 2}
    for record in read_records(folder):
        measured = record.outcome.measured
        assert measured is not None and measured.figure("latency_ms@pi") > 0 and measured.figure("latency_ms") > 0


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('command = "ssh secret"', ["study.toml: device.pi.command must be a list of texts"]),
        ('command = [["ssh", "secret"]]', ["device.pi.command must be a list of texts"]),
        ('command = ["/nowhere/secret"]', ["must start with a program of this machine", "study.toml: device.pi"]),
        ("command = [1]", ["device.pi.command"]),
        ('comand = ["ssh"]', ["but got device.pi.comand; did you mean 'command'?"]),
        ('kind = "remote"', ["must have a command", "study.toml: device.pi"]),
        ('kind = "onnxruntime_cpu"\ncommand = ["ssh"]', ["a command must start the agent", "study.toml: device.pi"]),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(table: str, words: list[str], tmp_path: Path, command: Command) -> None:
    study = write_study(tmp_path / "s", OBJECTIVES, extra=f"[device.pi]\n{table}\n")
    answer = command("run", study)
    assert answer.code == 2 and all(word in answer.line for word in words), answer
    assert "secret" not in answer.line and not (tmp_path / "runs").exists()


def test_settings_that_the_device_lacks_are_refused_before_anything_is_written(
    tmp_path: Path, command: Command
) -> None:
    study = write_study(tmp_path / "s", OBJECTIVES, extra=pi(agent_in(tmp_path / SECRET)) + "threads = 5000\n")
    answer = command("run", study)
    assert answer.code == 2 and "device pi: threads <= " in answer.line and "got threads=5000" in answer.line
    assert not (tmp_path / "runs").exists()
