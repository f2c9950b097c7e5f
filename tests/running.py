"""A study that runs in seconds, and ways to run the command line: in this process, or as one that can be killed."""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_compress.cli import main as entry
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.files import read_sealed_json, write_sealed_json
from nas_compress.search.reporter import Silence

# two threads on nets of this size only wait for each other where the machine is busy
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NAS_COMPRESS_WORKERS"] = "1"  # processes cost more than these small trainings

STUDY = """
name = "tiny"
space = "space.py"
trials = 3
[data]
name = "digits"
train_samples = 200
[teacher]
widths = [8, 16, 16]
epochs = 2
learning_rate = 0.01
[training]
epochs = 1
batch_size = 32
learning_rate = 0.01
[search]
sampler = "random"
"""

ABOUT = {
    "study": {"name": "tiny", "space": "cnn", "data": {"name": "digits"}},
    "study_folder": ".",
    "storage": None,
    "classes": 10,
    "space": {"name": "cnn", "hash": "0123"},
    "versions": {"python": "3"},
    "machine": {"cpu": "a cpu"},
}
"""The content of a run.json."""

LOADED_BY_THE_FIRST_TRIAL = ("sklearn.datasets", "torch.onnx", "torch.fx.experimental.symbolic_shapes")

PRELOADED = ["nas_compress.search.run", "nas_compress.cli.main", *LOADED_BY_THE_FIRST_TRIAL]
"""Modules in the memory of every process that a test forks."""

SPACE = '''"""Two families in four widths: 8 points."""
from nas_compress.values.candidate import Candidate


def suggest(trial):
    """Propose one student."""
    family = trial.suggest_categorical("family", ["resnet", "mobilenet"])
    width = trial.suggest_categorical("width_multiplier", [0.25, 0.5, 0.75, 1.0])
    return Candidate(family=family, depths=(1, 1, 1), width_multiplier=width)
'''


@functools.cache
def shared_cache() -> Path:
    """Teachers and latencies that all tests of one session keep."""
    folder = tempfile.mkdtemp(prefix="nas_compress_tests_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def sketch_pictures(patch: pytest.MonkeyPatch) -> None:
    """Let runs write their pictures without drawing them, which takes longer than a trial of the tiny study."""
    for name in ("plot_front", "plot_hypervolume"):
        patch.setattr(f"nas_compress.runs.results.{name}", _write_empty)


def _write_empty(*given: object, title: str, spreads: object = None) -> None:
    (path,) = (each for each in given if isinstance(each, Path))
    path.write_bytes(b"")


@contextmanager
def quick_and_apart(cache: Path | None = None) -> Iterator[pytest.MonkeyPatch]:
    """The tests' own cache, and latencies that are read quickly, for these tests compare none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_COMPRESS_CACHE", str(cache or shared_cache()))
        defaults = LatencyMeter.__init__.__kwdefaults__
        patch.setitem(defaults, "time_limit_s", 0.2)
        patch.setitem(defaults, "blocks", 2)
        patch.setattr("nas_compress.devices.onnxruntime_cpu.latency._LEARN_S", 0.2)
        yield patch


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path) -> Iterator[None]:
    """Each test in a folder of its own, apart from the user's cache; for the modules that import it."""
    with quick_and_apart() as patch:
        patch.chdir(tmp_path)
        yield


def write_study(folder: Path, *changes: tuple[str, str], space: str = SPACE, extra: str = "") -> Path:
    """The tiny study with pieces of its text changed; `extra` is put at the end.

    Every trial is trained to its end unless the changes say otherwise: what stops one depends on latencies.
    """
    text = STUDY
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    if "stop = " not in text:
        text = text.replace("[search]", '[search]\nstop = "none"')
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(text + extra)
    (folder / "space.py").write_text(space)
    return folder / "study.toml"


@dataclass
class Told(Silence):
    """Keeps the lines of a run."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)


@dataclass(frozen=True, kw_only=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """What stderr says: one line of ours, after the lines about code that is loaded, and no traceback."""
        assert "Traceback" not in self.err
        (line,) = (line for line in self.err.splitlines() if not line.startswith("loads "))
        assert line.startswith("nas-compress: ")
        return line


Command = Callable[..., Answer]


def command_in(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`nas-compress ...` in this process, with its exit code and what it printed."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["nas-compress", *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM)
        capfd.readouterr()
        with pytest.raises(SystemExit) as leave:
            entry.main()
        signal.signal(signal.SIGTERM, before)
        printed = capfd.readouterr()
        return Answer(code=int(leave.value.code or 0), out=printed.out, err=printed.err)

    return run


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def snapshot(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every file below the folders, with its size and time of change."""
    files = [path for folder in folders for path in folder.rglob("*")]
    kept = [path for path in files if path.is_file() and path.parent.name != "__pycache__"]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in kept}


def start(
    arguments: Sequence[object], *, cwd: Path, cache: Path, log: Path, limit: int = 0, memory: int = 0
) -> ForkServerProcess:
    """`nas-compress ...` as a process of its own, forked from one that has imported everything; both outputs to `log`.

    limit: the largest file, in bytes, that the process may write. memory: the bytes of its address space.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_child, args=([str(word) for word in arguments], cwd, cache, log, limit, memory))
    process.start()
    return process


def _child(arguments: list[str], cwd: Path, cache: Path, log: Path, limit: int, memory: int) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    os.chdir(cwd)
    sys.argv = ["nas-compress", *arguments]
    with quick_and_apart(cache) as patch:
        if not limit:  # a picture may be the file that meets it
            sketch_pictures(patch)
        entry.main()


def wait_until(condition: Callable[[], bool], process: ForkServerProcess, seconds: float = 300) -> None:
    """Wait for something that the process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), "the process ended before it did what was waited for"
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def change_record(run: Path, trial: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the values of a record as a writer would, with the right checksum."""
    path = run / "trials" / str(trial) / "outcome.json"
    values = read_sealed_json(path)
    change(values)
    write_sealed_json(path, values)
