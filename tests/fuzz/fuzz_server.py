"""A process that has imported everything and runs each command line in a fork of itself.

A fork starts within milliseconds; a new process would import torch for seconds. Requests are lines of JSON on
stdin, answers lines of JSON on stdout.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import time
import traceback
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from wsgiref.simple_server import WSGIServer

POLL_S = 0.005

QUICK_MODULES = (
    "nas_compress.cli.main",
    "nas_compress.cli.measure",
    "nas_compress.cli.verify",
    "nas_compress.confirm.measured_again",
    "nas_compress.search.run",
    "nas_compress.runs.bundle",
    "matplotlib.pyplot",
    "rich.table",
    "torch._dynamo",
)
"""Imports of the quick commands, which otherwise each fork would make."""

OTHER_MODULES = (
    "nas_compress.confirm.run",
    "nas_compress.dashboard.server",
    "nas_compress.report.page",
    "nas_compress.search.workers.dask",
    "optuna_dashboard",
    "optuna._gp.gp",
)
"""Imports of the other commands."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One command line.

    interrupted: kill the process when it has written its first checkpoint. plain: without root's right to read and
    write any file. sketched: write empty pictures, because drawing takes longer than a trial.
    """

    arguments: tuple[str, ...]
    folder: str
    timeout_s: float = 120.0
    interrupted: bool = False
    plain: bool = False
    sketched: bool = False


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The end of a command. code: its exit code, negative for a signal. memory_mb: the most that it used."""

    code: int
    out: str
    err: str
    timed_out: bool
    seconds: float
    memory_mb: int


def prepare(*, quick: bool) -> None:
    """Import everything, and make what depends on time or on the machine's speed exact. quick: import less."""
    import matplotlib

    matplotlib.use("Agg")
    for name in QUICK_MODULES if quick else QUICK_MODULES + OTHER_MODULES:
        importlib.import_module(name)
    if not quick:
        importlib.import_module("nas_compress.search.preflight.feasibility").DRAWS = 20
    import torch

    torch.set_num_threads(1)
    os.fsync = lambda handle: None  # type: ignore[assignment]  # no power cut is tried here
    _measure_exactly()
    _answer_once()


def _measure_exactly() -> None:
    """Replace the measurement of a latency by a number of the file's graph; keep the cache of latencies."""
    from nas_compress.devices.onnxruntime_cpu import latency as module
    from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import FastLevel, GatedLatency

    class Sized:
        """A file without a session."""

        def __init__(self, model: Path, **_: object) -> None:
            self.milliseconds = Path(model).stat().st_size / 65536

    def measure(
        meter: module.LatencyMeter, candidate: Sized, *, key: str | None, patient: bool, alone: bool
    ) -> GatedLatency:
        exact = candidate.milliseconds if key is None else zlib.crc32(key.encode()) / 2**32
        figures = GatedLatency(latency_ms=exact, spread=0.0, blocks=12, noisy=False, reference_ms=1.0)
        meter._cache.keep(FastLevel(fast_ms=1.0), {} if key is None else {key: figures})
        return figures

    module.TimedNet = Sized  # type: ignore[assignment, misc]
    module.LatencyMeter._measure = measure  # type: ignore[assignment, method-assign]


def _answer_once() -> None:
    """Let the dashboard print its answer about the first study instead of serving for ever."""

    def serve(server: WSGIServer, poll_interval: float = 0.5) -> None:
        environment = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies/0", "SERVER_NAME": "", "SERVER_PORT": "0"}
        pieces = server.get_app()(environment | {"wsgi.input": None, "wsgi.errors": sys.stderr}, lambda *given: None)
        print(b"".join(pieces).decode())

    WSGIServer.serve_forever = serve  # type: ignore[method-assign]


def answer(request: Request, scratch: Path) -> Ended:
    """Run one command in a fork."""
    out, err = scratch / "out", scratch / "err"
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(request, out, err)
    timed_out = False
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() - started > request.timeout_s and not timed_out:
            timed_out = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(POLL_S)
    return Ended(
        code=os.waitstatus_to_exitcode(status),
        out=out.read_text(errors="replace"),
        err=err.read_text(errors="replace"),
        timed_out=timed_out,
        seconds=round(time.monotonic() - started, 3),
        memory_mb=usage.ru_maxrss // 1024,
    )


def _child(request: Request, out: Path, err: Path) -> None:
    """Become the command; never returns."""
    code = 70
    try:
        os.setsid()
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        if request.interrupted:
            _die_after_the_first_checkpoint()
        if request.sketched:
            _sketch()
        os.chdir(request.folder)
        if request.plain:
            _give_up_rights()
        sys.argv = ["nas-compress", *request.arguments]
        from nas_compress.cli import main as entry

        entry.main()
        code = 0
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else 0
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_after_the_first_checkpoint() -> None:
    from nas_compress.training.checkpoint import Checkpoint

    write = Checkpoint._write

    def last(checkpoint: Checkpoint, *given: object) -> None:
        write(checkpoint, *given)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGKILL)

    Checkpoint._write = last  # type: ignore[assignment, method-assign]


def _give_up_rights() -> None:
    """Drop every capability; root then is a plain owner of its files."""
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def _sketch() -> None:
    from nas_compress.files import write_bytes
    from nas_compress.runs import results

    def write(*given: object, title: str, spreads: object = None) -> None:
        (path,) = (each for each in given if isinstance(each, Path))
        write_bytes(path, b"")

    results.plot_front = results.plot_hypervolume = write


def main(scratch: Path, *, quick: bool) -> None:
    """Answer requests until stdin ends."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    prepare(quick=quick)
    print(json.dumps("ready"), file=channel, flush=True)
    for line in sys.stdin:
        values = json.loads(line)
        request = Request(**values | {"arguments": tuple(values["arguments"])})
        print(json.dumps(asdict(answer(request, scratch))), file=channel, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), quick="quick" in sys.argv[2:])
