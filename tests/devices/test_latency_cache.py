"""The cache file: what it gives back, what it refuses, and that processes cannot break it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nas_compress.devices.onnxruntime_cpu.latency_cache import LatencyCache
from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import FastLevel, GatedLatency
from nas_compress.files import digest_of_values

LEVEL = FastLevel(fast_ms=0.25, misses=1)


def latency(value: float, reference: float = 0.25) -> GatedLatency:
    return GatedLatency(latency_ms=value, spread=0.01, blocks=20, noisy=False, reference_ms=reference)


def open_cache(path: Path, *, boot: str = "boot", reference: str = "net") -> LatencyCache:
    return LatencyCache(path, boot=boot, reference=reference)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "machine.json"


def test_what_is_kept_comes_back_exactly(path: Path) -> None:
    open_cache(path).keep(LEVEL, {"a": latency(0.1 + 0.2)})
    open_cache(path).keep(LEVEL, {"b": latency(2.0)})
    assert open_cache(path).find("a") == latency(0.1 + 0.2)
    assert open_cache(path).find("b") == latency(2.0)
    assert open_cache(path).find("c") is None
    assert open_cache(path).level() == LEVEL


def test_the_level_ends_with_the_boot_and_the_latencies_do_not(path: Path) -> None:
    open_cache(path).keep(LEVEL, {"a": latency(1.0)})
    later = open_cache(path, boot="next")
    assert later.level() is None
    assert later.find("a") == latency(1.0)


def test_another_reference_net_starts_afresh(path: Path) -> None:
    open_cache(path).keep(LEVEL, {"a": latency(1.0)})
    other = open_cache(path, reference="other")
    assert other.level() is None
    assert other.find("a") is None


def test_a_latency_from_before_the_fast_state_was_seen_is_not_given(path: Path) -> None:
    open_cache(path).keep(LEVEL, {"slow": latency(2.0, reference=0.4), "near": latency(1.0, reference=0.26)})
    assert open_cache(path).find("slow") is None
    assert open_cache(path).find("near") is not None


def sealed(**changes: object) -> str:
    values = {"machine": "machine", "reference": "net", "level": None, "latencies": {}} | changes
    return json.dumps(values | {"sha256": digest_of_values(values)})


ENTRY = {"latency_ms": 1.0, "spread": 0.01, "blocks": 20, "noisy": False, "reference_ms": 0.25}
LEVEL_ENTRY = {"boot": "boot", "fast_ms": 0.25, "misses": 1, "missed_at": 0.0}

DAMAGED = ["", "{broken", "[1, 2]", "\x00\xff", "[" * 100_000, '{"reference": "net", "level": null, "latencies": {}}']
OTHER = [
    sealed(level=7, latencies=[]),
    sealed(level={"boot": "boot", "fast_ms": "x"}, latencies={"a": {"blocks": 1}}),
    sealed(machine="another", level=LEVEL_ENTRY, latencies={"a": ENTRY}),
    sealed(reference="another", level=LEVEL_ENTRY, latencies={"a": ENTRY}),
]


@pytest.mark.parametrize("text", DAMAGED + OTHER, ids=range(len(DAMAGED + OTHER)))
def test_a_broken_or_foreign_file_is_ignored_and_rewritten(
    path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_text(text, encoding="latin-1")
    cache = open_cache(path)
    assert cache.level() is None
    assert cache.find("a") is None
    assert [str(path) in line for line in caplog.messages] == [True] * (text in DAMAGED)
    cache.keep(LEVEL, {"a": latency(1.0)})
    assert cache.find("a") == latency(1.0)
    assert cache.level() == LEVEL
    assert len(caplog.messages) == (text in DAMAGED)


@pytest.mark.parametrize(
    "change",
    [
        {"latency_ms": -1.0},
        {"latency_ms": 0.0},
        {"latency_ms": 4e6},
        {"latency_ms": float("nan")},
        {"latency_ms": float("inf")},
        {"latency_ms": "1.0"},
        {"spread": -0.1},
        {"spread": float("inf")},
        {"blocks": 0},
        {"noisy": None},
        {"reference_ms": 0.0},
    ],
)
def test_an_implausible_latency_is_measured_again(path: Path, change: dict[str, object]) -> None:
    path.parent.mkdir()
    path.write_text(sealed(level=LEVEL_ENTRY, latencies={"a": ENTRY | change, "b": ENTRY}))
    assert open_cache(path).find("a") is None
    assert open_cache(path).find("b") == latency(1.0)


@pytest.mark.parametrize("change", [{"fast_ms": -1.0}, {"fast_ms": float("nan")}, {"misses": -1}, {"missed_at": 1e999}])
def test_an_implausible_level_is_learned_again(path: Path, change: dict[str, object]) -> None:
    path.parent.mkdir()
    path.write_text(sealed(level=LEVEL_ENTRY | change))
    assert open_cache(path).level() is None


def test_nothing_new_writes_nothing(path: Path) -> None:
    open_cache(path).keep(LEVEL, {"a": latency(1.0)})
    before = path.stat()
    open_cache(path).keep(LEVEL, {"a": latency(1.0)})
    assert path.stat().st_ino == before.st_ino


def test_without_a_writable_folder_latencies_live_as_long_as_the_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = open_cache(tmp_path / "file" / "machine.json")
    cache.keep(LEVEL, {"a": latency(1.0)})
    cache.keep(LEVEL, {"b": latency(2.0)})
    assert (cache.find("a"), cache.find("b"), cache.level()) == (latency(1.0), latency(2.0), LEVEL)
    (line,) = caplog.messages
    assert str(tmp_path / "file" / "machine.json") in line and "NAS_COMPRESS_CACHE" in line


WRITER = """
import sys
from pathlib import Path
from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import FastLevel, GatedLatency
from nas_compress.devices.onnxruntime_cpu.latency_cache import LatencyCache
cache = LatencyCache(Path(sys.argv[1]), boot="boot", reference="net")
for number in range(40):
    value = GatedLatency(latency_ms=float(number), spread=0.0, blocks=20, noisy=False, reference_ms=0.25)
    cache.keep(FastLevel(fast_ms=0.25), {f"{sys.argv[2]}{number}": value})
"""


def test_two_processes_leave_a_whole_file_with_entries_of_both(path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in ("left", "right")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    names = json.loads(path.read_text())["latencies"]
    assert any(name.startswith("left") for name in names)
    assert any(name.startswith("right") for name in names)
    assert list(path.parent.iterdir()) == [path]
