"""Energy by the counters of a made folder tree."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nas_compress.devices import table
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.onnxruntime_cpu.energy import Counter, energy_mj, find_counters
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.devices.table import DEVICES, DeviceEntry
from nas_compress.errors import RequestError
from nas_compress.search.run import run_study
from nas_compress.values.device_settings import DEFAULT_SETTINGS, DeviceSettings
from running import write_study
from timing import SAFE_BLOCKS, learned_level_in, save_net

ZONES = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "dram",
    "intel-rapl:1": "psys",
    "intel-rapl-mmio:0": "package-0",
}
RANGE_UJ = 10_000
WITH_ENERGY = DeviceSettings(energy=True)
STUDY = ('name = "tiny"\n', 'name = "tiny"\nobjectives = ["accuracy", "energy_mj"]\n')


def write_tree(root: Path, *, range_uj: int = RANGE_UJ) -> Path:
    for zone, name in ZONES.items():
        (root / zone).mkdir(parents=True)
        (root / zone / "name").write_text(f"{name}\n")
        (root / zone / "max_energy_range_uj").write_text(f"{range_uj}\n")
        (root / zone / "energy_uj").write_text("0\n")
    return root


def add(root: Path, zone: str, amount: int, *, range_uj: int = RANGE_UJ) -> None:
    file = root / zone / "energy_uj"
    value = (int(file.read_text()) + amount) % range_uj
    (root / zone / "next").write_text(f"{value}\n")
    (root / zone / "next").replace(file)  # a reader never finds half a number


@contextmanager
def counting(root: Path) -> Iterator[Path]:
    """A made tree whose counters move."""
    write_tree(root, range_uj=10**12)
    ended = threading.Event()

    def count() -> None:
        while not ended.wait(0.004):
            for zone in ZONES:
                add(root, zone, 5_000, range_uj=10**12)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield root
    finally:
        ended.set()
        thread.join()


def test_processor_and_memory_are_added_and_the_counters_may_start_again(tmp_path: Path) -> None:
    write_tree(tmp_path)
    counters = [
        Counter(file=tmp_path / zone / "energy_uj", range_uj=RANGE_UJ) for zone in ("intel-rapl:0", "intel-rapl:0:1")
    ]

    def run() -> int:
        for zone in ZONES:
            add(tmp_path, zone, 3_000)
        return 2

    assert energy_mj(counters, run, window_s=0.0) == pytest.approx(2 * 3.0 / 2)  # 5 windows: 15 mJ, range 10 mJ


def test_the_processor_and_its_memory_are_counted_once(tmp_path: Path) -> None:
    with counting(tmp_path) as root:
        found = find_counters(WITH_ENERGY, root)
    assert [each.file.parent.name for each in found] == ["intel-rapl:0", "intel-rapl:0:1"]


def test_a_machine_without_moving_counters_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"energy_mj needs a machine with energy counters, but got none in .*; leave"
    ):
        find_counters(WITH_ENERGY, tmp_path / "none")
    with pytest.raises(RequestError, match=r"needs counters that move, but .*energy_uj does not; leave energy_mj out"):
        find_counters(WITH_ENERGY, write_tree(tmp_path / "still"))
    with pytest.raises(RequestError, match="providers must be"):
        find_counters(DeviceSettings(energy=True, providers=("CUDAExecutionProvider",)), tmp_path / "none")


def test_a_counter_of_root_is_refused_with_the_way_out() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        root = write_tree(Path(folder) / "powercap")
        for file in root.glob("*/energy_uj"):
            file.chmod(0o000)
        line = f"only root may; run `sudo chmod a+r {root}/intel-rapl:*/energy_uj` after each start"
        with _as_a_user(), pytest.raises(RequestError, match=re.escape(line)):
            find_counters(WITH_ENERGY, root)


@contextmanager
def _as_a_user() -> Iterator[None]:
    """Root reads every file, so it becomes another user for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_kept_latency_gets_its_energy_when_a_study_asks_for_it(tmp_path: Path) -> None:
    learned_level_in(tmp_path, fast_ms=1e6)
    net = save_net(tmp_path / "net.onnx")
    plain = LatencyMeter(cache=tmp_path, blocks=SAFE_BLOCKS)
    assert plain.measure(net, key="net").figures(DEFAULT_SETTINGS).keys() == {"latency_ms"}
    learned_level_in(tmp_path, fast_ms=1e6)  # no measurement is noisy under it
    with counting(tmp_path / "powercap") as root:
        meter = LatencyMeter(cache=tmp_path, blocks=SAFE_BLOCKS, settings=WITH_ENERGY, powercap=root)
        assert meter.fingerprint == plain.fingerprint
        found = meter.measure(net, key="net")
        assert found.energy_mj is not None and found.energy_mj > 0
        assert meter.measure(tmp_path / "gone.onnx", key="net") == found
    assert found.figures(WITH_ENERGY) == {"latency_ms": found.latency_ms, "energy_mj": found.energy_mj}
    assert plain.measure(tmp_path / "gone.onnx", key="net").energy_mj is None


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of energy on a device whose counters are in `powercap`, which is not there yet."""

    def make(settings: DeviceSettings) -> OnnxruntimeCpu:
        return OnnxruntimeCpu(LatencyMeter(settings=settings, time_limit_s=0.3, powercap=tmp_path / "powercap"))

    entry = DeviceEntry(summary="made", make=make, integer_caution=lambda machine: "")
    monkeypatch.setattr(table, "DEVICES", {**DEVICES, "made": entry})
    return write_study(tmp_path / "s", STUDY, extra='[target]\nname = "made"\n')


def test_a_study_of_energy_is_refused_before_anything_is_trained(study: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="energy_mj needs a machine with energy counters"):
        run_study(study, out=tmp_path / "run", trials=1)
    assert not list((tmp_path / "run").rglob("*.onnx"))


@pytest.mark.slow
def test_a_study_of_energy_runs_to_a_front(study: Path, tmp_path: Path) -> None:
    with counting(tmp_path / "powercap"):
        front = run_study(study, out=tmp_path / "run", trials=1)
    assert front.members and front.members[0].figure("energy_mj") > 0
    assert ",energy_mj," in (tmp_path / "run" / "front.csv").read_text().splitlines()[0]
