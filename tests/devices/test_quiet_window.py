"""Processes that share a quiet window, one of them killed or stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nas_compress
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.devices.onnxruntime_cpu.training_pause import QuietWindow
from timing import meter_with_level, save_net

Begin = Callable[[Path, str], subprocess.Popen[str]]

OTHER = """
import sys, time
from pathlib import Path
from nas_compress.devices.onnxruntime_cpu.training_pause import QuietWindow
window = QuietWindow(Path(sys.argv[1]))
with window.{how}:
    print("inside", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def stubborn() -> Iterator[Begin]:
    """Begins processes that are in a window and never leave it."""
    begun: list[subprocess.Popen[str]] = []

    def begin(folder: Path, how: str) -> subprocess.Popen[str]:
        source = {"PYTHONPATH": str(Path(nas_compress.__file__).parents[1])}
        begun.append(
            subprocess.Popen(
                [sys.executable, "-c", OTHER.format(how=how), str(folder)],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | source,
            )
        )
        assert begun[-1].stdout is not None and begun[-1].stdout.readline() == "inside\n"
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def test_who_trains_holds_still_from_its_next_pause_until_the_measurement_is_over(tmp_path: Path) -> None:
    trainer, meter = QuietWindow(tmp_path), QuietWindow(tmp_path)
    steps: list[str] = []
    inside, measured = threading.Event(), threading.Event()

    def train() -> None:
        with trainer.busy():
            inside.set()
            while not measured.is_set():
                steps.append("step")
                trainer.pause()

    thread = threading.Thread(target=train)
    thread.start()
    assert inside.wait(10)
    with meter.still() as alone:
        assert alone
        before = len(steps)
        thread.join(0.1)
        assert thread.is_alive()
        assert len(steps) == before >= 1, "it computed beside a measurement"
        measured.set()
    thread.join(10)
    assert not thread.is_alive()


def test_who_measures_within_a_trial_does_not_wait_for_itself(tmp_path: Path) -> None:
    window, other = QuietWindow(tmp_path), QuietWindow(tmp_path)
    with window.busy():
        with window.still(patience_s=0.0) as alone:
            assert alone
        with other.still(patience_s=0.0) as alone:
            assert not alone, "after its measurement it computes again"
    with other.still(patience_s=0.0) as alone:
        assert alone


@pytest.mark.parametrize("how", ["busy()", "still()"])
def test_a_killed_process_blocks_nobody(stubborn: Begin, how: str, tmp_path: Path) -> None:
    process = stubborn(tmp_path, how)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    with QuietWindow(tmp_path).still(patience_s=0.0) as alone:
        assert alone


def test_beside_a_process_that_never_pauses_a_latency_is_noisy_and_not_kept(
    stubborn: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = meter_with_level(tmp_path, 1e6)
    net = save_net(tmp_path / "net.onnx")
    monkeypatch.setattr("nas_compress.devices.onnxruntime_cpu.training_pause.TURN_S", 0.05)
    process = stubborn(tmp_path / describe_machine().key, "still()")
    assert meter.measure(net, key="net").noisy
    process.kill()
    process.wait(10)
    meter = meter_with_level(tmp_path, 1e6)  # the first one learned a level that a slow state may miss
    assert not meter.measure(net, key="net").noisy
    assert not meter.measure(tmp_path / "gone.onnx", key="net").noisy, "a quiet one is kept"


def test_without_lock_files_training_goes_on_and_a_latency_is_noisy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("in the way")
    window = QuietWindow(tmp_path / "cache" / "machine")
    with window.busy():
        window.pause()
        with window.still() as alone:
            assert not alone
    meter = LatencyMeter(cache=tmp_path / "cache", time_limit_s=0.1, blocks=1)
    assert meter.measure(save_net(tmp_path / "net.onnx"), key="net").noisy
    (line,) = caplog.messages
    assert "NAS_COMPRESS_CACHE" in line


def test_the_lock_of_another_user_is_shared(tmp_path: Path) -> None:
    (tmp_path / ".door").touch(0o444)
    (tmp_path / ".room").touch(0o444)
    with QuietWindow(tmp_path).still(patience_s=0.0) as alone:
        assert alone
