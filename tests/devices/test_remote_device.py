"""A device reached by a command: an agent that measures, and all that may happen to it."""

from __future__ import annotations

import ast
import fcntl
import os
import sys
from pathlib import Path

import pytest

from nas_compress.devices.onnx_session import read_model
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.devices.onnxruntime_cpu.training_pause import QuietWindow
from nas_compress.devices.remote import agent
from nas_compress.devices.remote.agent_file import restricted_key, write_agent
from nas_compress.devices.remote.connection import Connection
from nas_compress.devices.remote.device import RemoteDevice, open_remote
from nas_compress.devices.remote.facts import Facts
from nas_compress.devices.remote.link import Limits, Link
from nas_compress.errors import DeviceLostError, FloatKernelError, RequestError, TrialError
from nas_compress.files import cache_folder
from nas_compress.values.device_settings import DEFAULT_SETTINGS, DeviceSettings
from remote_devices import AGENT, PATIENT, changed_agent, remote_device
from running import own_cache  # noqa: F401
from timing import save_net

pytestmark = pytest.mark.usefixtures("own_cache")

COUNTED = "open({path!r}, 'a').write('x')\n"
"""Count the starts of an agent."""

ENDING = """
def answer(self, ask, body):
    if ask['request'] == {request!r}:
        os._exit({code})
    return honest(self, ask, body)
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return save_net(tmp_path / "net.onnx")


def test_a_written_agent_measures_a_file(tmp_path: Path, net: Path) -> None:
    write_agent(tmp_path / "agent.py")
    device = remote_device([sys.executable, str(tmp_path / "agent.py")])
    found = device.latency(net, key="net")
    assert found.latency_ms > 0 and not found.noisy
    assert device.latency(net, key="net") == found == remote_device().latency(net, key="net"), "kept in the cache"
    device.check(net, activation_bits=32)
    with pytest.raises(FloatKernelError, match=r"Conv, Conv \(net\.onnx\)"):
        device.check(net, activation_bits=8)


def test_the_agent_needs_numpy_and_onnxruntime_only_and_an_old_python() -> None:
    tree = ast.parse(Path(agent.__file__).read_text(), feature_version=(3, 9))
    found = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    found |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in found} - sys.stdlib_module_names == {"numpy"}
    assert '__import__("onnxruntime")' in ast.unparse(tree).replace("'", '"')


def test_an_agent_replaces_only_an_agent(tmp_path: Path) -> None:
    write_agent(tmp_path / "agent.py")
    write_agent(tmp_path / "agent.py")
    (tmp_path / "other.py").write_text("print()\n")
    for path in (tmp_path / "other.py", tmp_path):
        with pytest.raises(RequestError, match="--write must be a new file or an agent to replace, but got"):
            write_agent(path)
    assert restricted_key(tmp_path / "agent.py") == 'restrict,command="python3 agent.py"'


def test_what_a_command_prints_before_the_answers_is_skipped(tmp_path: Path, net: Path) -> None:
    greeting = "sys.stdout.write('Welcome to alice@pi' * 100)\nsys.stdout.flush()"
    assert remote_device(changed_agent(tmp_path, greeting)).latency(net).latency_ms > 0


def test_an_agent_that_ended_without_requests_is_started_again(tmp_path: Path, net: Path) -> None:
    log = tmp_path / "starts"
    ending = ENDING.format(request="end", code=3)
    connection = Connection(changed_agent(tmp_path, COUNTED.format(path=str(log)) + ending), limits=PATIENT)
    link = connection.do(lambda link: link)
    with pytest.raises(DeviceLostError, match="a request took too long there"):
        link._ask({"request": "end"})
    assert link.has_ended
    assert connection.do(lambda link: link) is not link
    assert log.read_text() == "xx"


def test_each_question_to_a_lost_device_starts_its_command_again(tmp_path: Path, net: Path) -> None:
    log = tmp_path / "starts"
    dies = f"if os.path.getsize({str(log)!r}) == 2: os._exit(7)\n"
    once = f"if os.path.getsize({str(log)!r}) > 2: answer = honest\n"
    command = changed_agent(
        tmp_path, COUNTED.format(path=str(log)) + dies + ENDING.format(request="time", code=9) + once
    )
    device = remote_device(command)
    for code in (9, 7):
        with pytest.raises(
            DeviceLostError, match=f"^the device did not answer: its command ended with exit code {code}$"
        ):
            device.latency(net)
    assert device.latency(net).latency_ms > 0
    assert log.read_text() == "xxx"


def test_known_figures_need_no_device(net: Path) -> None:
    device = remote_device()
    found = device.latency(net, key="known")
    device._meter.connection.close()
    device._meter.connection._command = ("/nowhere/agent",)
    assert device.latency(net, key="known") == found
    with pytest.raises(RequestError, match="cannot be started: no such file or directory"):
        device.latency(net, key="unknown")


def test_nothing_is_started_before_the_first_question(tmp_path: Path) -> None:
    log = tmp_path / "starts"
    device = open_remote(DEFAULT_SETTINGS, changed_agent(tmp_path, COUNTED.format(path=str(log))), limits=PATIENT)
    assert device.settings == DEFAULT_SETTINGS and device.name == "remote" and not log.exists()
    assert device.describe()["device"] == "remote" and log.read_text() == "x"


@pytest.mark.parametrize("command", [[], ["/nowhere/secret"], ["secret.txt"], ["./secret.txt"], ["a\0secret"]])
def test_a_program_that_cannot_be_started_is_a_wrong_request(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.txt").write_text("no program")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="must start with a program of this machine") as caught:
        open_remote(DEFAULT_SETTINGS, command)
    assert "secret" not in str(caught.value)


def test_another_machine_in_place_of_the_device_is_refused(tmp_path: Path, net: Path) -> None:
    log = tmp_path / "starts"
    host = f"str(os.path.getsize({str(log)!r}))"
    moved = f"facts = agent.facts\nagent.facts = lambda: {{**facts(), 'host': {host}}}"
    device = remote_device(changed_agent(tmp_path, COUNTED.format(path=str(log)) + moved))
    assert device.latency(net).latency_ms > 0
    device._meter.connection.close()
    with pytest.raises(DeviceLostError, match="another machine or another onnxruntime answers"):
        device.latency(net)


def test_agents_of_one_file_wait_for_each_other(tmp_path: Path, net: Path) -> None:
    command = changed_agent(tmp_path, "agent.TURN_S = 0.05")
    with Path(agent.__file__).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DeviceLostError, match="another program measures on the device"):
            remote_device(command).latency(net)
    assert remote_device(command).latency(net).latency_ms > 0


def test_training_of_this_machine_pauses_for_an_agent_on_it(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device, window = remote_device(), QuietWindow(cache_folder() / "latency" / describe_machine().key)
    monkeypatch.setattr(QuietWindow.still.__wrapped__, "__defaults__", (0.05,))  # type: ignore[attr-defined]
    with window.busy():  # a training that does not pause
        assert device.latency(net, key="pauses").noisy
    monkeypatch.setattr(Facts, "is_here", False)
    monkeypatch.setattr(QuietWindow, "still", None)  # another machine is not disturbed, so nothing pauses
    assert device.latency(net, key="pauses").latency_ms > 0


def test_settings_that_the_device_lacks_are_refused(net: Path) -> None:
    with pytest.raises(
        RequestError, match=r"^threads <= \d+ must hold, the cores of the device, but got threads=4097$"
    ):
        open_remote(DeviceSettings(threads=4097), AGENT, limits=PATIENT).describe()
    with pytest.raises(RequestError, match="providers must be installed on the device"):
        remote_device(settings=DeviceSettings(providers=("MIGraphXExecutionProvider",))).latency(net)


def test_a_model_that_does_not_run_there_fails_its_trial(tmp_path: Path, net: Path) -> None:
    device = remote_device()
    content = net.read_bytes()
    with pytest.raises(RequestError, match=r"but got .*text\.onnx"):
        (tmp_path / "text.onnx").write_text("text")
        device.latency(tmp_path / "text.onnx")
    link = Link(AGENT, limits=PATIENT)
    link.give("candidate", content[: len(content) // 2], {})
    with pytest.raises(TrialError, match="the model must load in the onnxruntime of the device, but it does not"):
        link.optimised(DEFAULT_SETTINGS.providers)
    link.close()


def test_a_device_without_onnxruntime_is_named(tmp_path: Path) -> None:
    lacking = "def lacks(): raise ValueError('no_runtime')\nagent._runtime_version = lacks"
    with pytest.raises(DeviceLostError, match="has no onnxruntime; install onnxruntime and numpy there"):
        remote_device(changed_agent(tmp_path, lacking))


def test_a_fork_does_not_end_the_agent_of_its_parent(net: Path) -> None:
    device = remote_device()
    child = os.fork()
    if child == 0:
        device._meter.connection.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert device.latency(net).latency_ms > 0


def test_both_sides_send_the_same_graph(net: Path) -> None:
    link = Link(AGENT, limits=PATIENT)
    link.give("candidate", net.read_bytes(), {})
    path = net.with_name("optimised.onnx")
    path.write_bytes(link.optimised(DEFAULT_SETTINGS.providers))
    assert "Conv" in " ".join(node.op_type for node in read_model(path).graph.node)
    link.close()


def test_a_device_that_says_nothing_is_lost(tmp_path: Path) -> None:
    stalls = changed_agent(tmp_path, "time.sleep(3600)")
    with pytest.raises(DeviceLostError, match=r"^the device did not answer in time$"):
        open_remote(DEFAULT_SETTINGS, stalls, limits=Limits(start_s=0.2)).describe()


def test_it_describes_no_part_of_its_command(tmp_path: Path) -> None:
    secret = tmp_path / "alice-secret"
    secret.mkdir()
    device = remote_device(changed_agent(secret, ""))
    assert isinstance(device, RemoteDevice)
    assert "secret" not in f"{device.describe()} {device.summary} {device.fingerprint} {device!r}"
