"""What every device promises: those of the table and one without hardware, each with and without settings."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from math import isfinite
from pathlib import Path

import pytest

from fake_device import FakeDevice
from image_files import export_images
from nas_compress.devices.onnxruntime_cpu.machine import usable_cores
from nas_compress.devices.protocol import Device
from nas_compress.devices.remote.connection import Connection
from nas_compress.devices.table import DEFAULT_DEVICE, DEVICES, open_device, recorded_caution
from nas_compress.models.features import ObservableNetwork
from nas_compress.values.device_settings import DEFAULT_SETTINGS, DeviceSettings
from remote_devices import AGENT, PATIENT, learned_level_of, quick_device
from running import own_cache  # noqa: F401
from timing import learned_level_in

SHAPE = (1, 8, 8)

Make = Callable[[DeviceSettings], Device]


@cache
def _agent() -> Connection:
    """Start an agent on this machine, for all devices of this module: each start takes a second."""
    return Connection(AGENT, limits=PATIENT)


LOCAL = [
    name
    for name, entry in DEVICES.items()
    if entry.make is not None and (name != "openvino" or find_spec("openvino") is not None)
]
"""Devices of this machine whose packages are installed."""

MAKERS: dict[str, Make] = {name: lambda settings, name=name: open_device(name, settings) for name in LOCAL} | {
    "fake": lambda settings: FakeDevice(settings=settings),
    "agent": lambda settings: quick_device(_agent(), settings),
}
OTHER = {
    "threads": DeviceSettings(threads=min(2, usable_cores())),
    "batch": DeviceSettings(batch=4),
    "percentile": DeviceSettings(percentile="p95"),
    "all": DeviceSettings(threads=min(2, usable_cores()), batch=3, percentile="mean"),
}
ROWS: dict[str, Callable[[], Device]] = {
    f"{name} {kind}".strip(): lambda make=make, settings=settings: make(settings)
    for name, make in MAKERS.items()
    for kind, settings in {"": DEFAULT_SETTINGS, **OTHER}.items()
}

every_device = pytest.mark.parametrize("row", ROWS)
every_kind = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@pytest.fixture(autouse=True)
def _steady(own_cache: None) -> None:  # noqa: F811
    """A fast level that every state of the machine reaches, so that a first figure is not noisy."""
    for settings in (DEFAULT_SETTINGS, *OTHER.values()):
        for name in LOCAL:
            learned_level_in(fast_ms=1000.0, settings=settings, fingerprint=open_device(name, settings).fingerprint)
        learned_level_of(_agent(), settings)


@pytest.fixture(scope="module")
def exported(make_network: Callable[..., ObservableNetwork], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_images(make_network("resnet"), SHAPE, path)
    return path


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(exported, tmp_path))


@every_device
def test_it_is_described_in_plain_values_under_a_stable_fingerprint(row: str) -> None:
    one, other = ROWS[row](), ROWS[row]()
    assert one.fingerprint == other.fingerprint and one.name == other.name
    described = one.describe()
    stored = json.loads(json.dumps(described))
    assert stored == json.loads(json.dumps(other.describe()))
    assert (stored["device"], stored["key"]) == (one.name, one.fingerprint) and stored["cpu"]
    assert one.summary and "\n" not in one.summary
    assert recorded_caution(stored) == recorded_caution(described)


@every_device
def test_its_kernels_compute_a_fixed_number_of_channels_at_once(row: str) -> None:
    device = ROWS[row]()
    for bits in (32, 8, 4):
        step = device.channel_step(activation_bits=bits)
        assert step >= 1 and step == ROWS[row]().channel_step(activation_bits=bits)
    assert device.channel_step(activation_bits=8) <= device.channel_step(activation_bits=32)


@every_device
def test_it_checks_and_times_a_file(row: str, model: Path) -> None:
    device, content = ROWS[row](), model.read_bytes()
    device.check(model, activation_bits=32)
    found = device.latency(model)
    assert isfinite(found.latency_ms) and found.latency_ms > 0 and isfinite(found.spread) and found.spread >= 0
    assert model.read_bytes() == content and [path.name for path in model.parent.iterdir()] == [model.name]


@every_device
def test_a_figure_without_noise_is_measured_once_for_each_key(row: str, model: Path) -> None:
    first = ROWS[row]().latency(model, key="one", patient=True)
    assert not first.noisy
    assert ROWS[row]().latency(model, key="one") == first
    assert ROWS[row]().latency(model, key="one", sizes={}) == first


@every_device
def test_provisional_figures_are_forgotten(row: str, model: Path) -> None:
    device = ROWS[row]()
    kept = device.latency(model, key="kept")
    with device.provisional() as other:
        assert (other.name, other.fingerprint) == (device.name, device.fingerprint)
        assert other.latency(model, key="kept") == kept
        other.latency(model, key="tried")
    if row.split()[0] != "fake":
        model.unlink()
        assert device.latency(model, key="kept") == kept
        with pytest.raises(Exception, match=r"model\.onnx"):
            device.latency(model, key="tried")


@every_device
def test_a_busy_block_pauses_for_the_measurement_of_another(row: str, model: Path) -> None:
    working, done, steps = threading.Event(), threading.Event(), [0]

    def work() -> None:
        device = ROWS[row]()
        with device.busy():
            while not done.is_set():
                device.pause()
                steps[0] += 1
                working.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert working.wait(10)
        found = ROWS[row]().latency(model, patient=True)
        before = steps[0]
        assert not found.noisy, "the other paused"
    finally:
        done.set()
        thread.join(10)
    assert not thread.is_alive() and steps[0] >= before


@every_device
def test_it_can_measure_inside_its_own_busy_block(row: str, model: Path) -> None:
    device = ROWS[row]()
    with device.busy():
        device.pause()
        assert not device.latency(model, patient=True).noisy
        device.pause()


@every_kind
def test_each_setting_has_a_fingerprint_and_words_of_its_own(make: Make) -> None:
    devices = [make(settings) for settings in (DEFAULT_SETTINGS, *OTHER.values(), DeviceSettings(batch=5))]
    different = {device.settings for device in devices}
    assert len({device.fingerprint for device in devices}) == len(different) >= 5
    assert len({device.summary for device in devices}) == len({str(d.describe()) for d in devices}) == len(different)
    for device in devices:
        conditions = device.settings.conditions
        assert device.describe().get("conditions", "") == conditions and conditions in device.summary
    counting = DeviceSettings(counts_samples=True)
    assert make(counting).fingerprint == make(DEFAULT_SETTINGS).fingerprint, "the same latencies"
    assert make(counting).describe() == make(DEFAULT_SETTINGS).describe()


@every_kind
def test_each_setting_has_figures_of_its_own(make: Make, model: Path) -> None:
    one = make(DEFAULT_SETTINGS).latency(model, key="net", patient=True)
    several = make(OTHER["batch"]).latency(model, key="net", patient=True)
    assert several != one
    assert make(DEFAULT_SETTINGS).latency(model, key="net") == one
    assert make(OTHER["batch"]).latency(model, key="net") == several


def test_the_devices_of_one_machine_never_share_a_figure(model: Path) -> None:
    devices = [open_device(name, settings) for name in LOCAL for settings in (DEFAULT_SETTINGS, *OTHER.values())]
    assert len({device.fingerprint for device in devices}) == len({(each.name, each.settings) for each in devices})
    found = {device.fingerprint: device.latency(model, key="one net", patient=True) for device in devices}
    model.unlink()
    for device in devices:
        assert device.latency(model, key="one net") == found[device.fingerprint]


def test_a_busy_block_of_one_device_makes_way_for_another_of_the_same_process(model: Path) -> None:
    one, other = open_device(DEFAULT_DEVICE), open_device(DEFAULT_DEVICE, OTHER["batch"])
    with one.busy():
        assert not other.latency(model, patient=True).noisy
        one.pause()
