"""A file measured without a study: latency, size and memory, by a kind of device or a table of the working folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
import pytest

from nas_compress.devices.onnx_session import file_signature
from nas_compress.devices.remote import agent
from remote_devices import measure_quickly
from running import Command, command_in, own_cache  # noqa: F401
from timing import save_net

TABLE = '[device.pi]\nbatch = 2\ncommand = ["{python}", "{agent}"]\n'


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    measure_quickly(monkeypatch)
    return command_in(monkeypatch, capfd)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return save_net(tmp_path / "net.onnx")


def test_a_file_is_measured_without_a_study(net: Path, command: Command) -> None:
    found = json.loads(command("measure", net).out)
    assert found["device"] == "onnxruntime_cpu" and found["latency_ms"] > 0
    assert found["size_bytes"] == net.stat().st_size
    assert found["ram_bytes"] > 0 and found["flash_bytes"] >= 8 * 8 * 9 * 4
    assert "accuracy" not in found


@pytest.mark.parametrize("batch", ["batch_size", 1, None])
def test_the_batch_may_have_any_name_or_be_one(batch: str | int | None, net: Path, command: Command) -> None:
    model = onnx.load(net)
    for value in (*model.graph.input, *model.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        first.Clear()
        if isinstance(batch, str):
            first.dim_param = batch
        elif batch is not None:
            first.dim_value = batch
    onnx.save(model, net)
    found = json.loads(command("measure", net).out)
    assert found["latency_ms"] > 0 and found["ram_bytes"] > 0
    assert file_signature(net).inputs[0].shape[0] == "N"


def test_openvino_needs_no_table(net: Path, command: Command) -> None:
    pytest.importorskip("openvino")
    found = json.loads(command("measure", net, "--device", "openvino").out)
    assert found["latency_ms"] > 0 and found["machine"].startswith("OpenVINO")


def test_a_remote_device_is_that_of_the_study_in_the_working_folder(
    net: Path, command: Command, tmp_path: Path
) -> None:
    Path("study.toml").write_text(
        'name = "x"\nspace = "gone.py"\n[data]\nfactory = "gone:data"\n'
        + TABLE.format(python=sys.executable, agent=agent.__file__)
    )
    answer = command("measure", net, "--device", "pi")
    found = json.loads(answer.out)
    assert found["latency_ms"] > 0 and found["samples_per_s"] == pytest.approx(2000 / found["latency_ms"])
    assert "onnxruntime" in found["machine"] and found["machine"].endswith("batch of 2")
    wrong = command("measure", net, "--device", "pie")
    assert wrong.code == 2 and "did you mean 'pi'?" in wrong.line


def test_requests_without_the_study_that_they_need_are_refused(net: Path, command: Command, tmp_path: Path) -> None:
    lost = command("measure", net, "--device", "pi")
    assert lost.code == 2
    assert "a device without --study must be onnxruntime_cpu, openvino, or have a table [device.NAME]" in lost.line
    assert "but got 'pi'; valid are onnxruntime_cpu, openvino; --study STUDY reads the tables" in lost.line
    test = command("measure", net, "--split", "test")
    assert test.code == 2 and "--split test needs --study" in test.line
    (tmp_path / "x.onnx").write_bytes(b"x")
    assert command("measure", tmp_path / "x.onnx").code == 2
