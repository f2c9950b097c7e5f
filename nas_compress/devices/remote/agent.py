#!/usr/bin/env python3
"""Agent of nas-compress: times ONNX files of another machine, received over standard input.

It needs Python 3.9, numpy and onnxruntime, and no other file. It opens no port and reads no file. It writes one
temporary file, if it is asked for the optimised graph, and ends with its input.

A frame has MAGIC, two sizes, a SHA-256 of the rest, a JSON object, and bytes. Each request has one answer with the same
`request` and `number`. An answer with `error` has one of ERRORS.

hello: name the processor and the runtime. net: keep a model and its inputs for a role, `candidate` or `reference`.
optimise: return the candidate's graph after the runtime's optimisations. level: time the reference alone.
time: alternate blocks of runs of reference and candidate, until enough blocks ran in the device's fast state.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

PROTOCOL = 1
"""Version of the requests and answers. Agent and host must have the same."""

MAGIC = b"\x93NASAGT\n"
PREFIX = struct.Struct(">8sIQ32s")
"""Start of a frame: MAGIC, bytes of the JSON object, bytes after it, SHA-256 of both."""

HEADER_LIMIT = 2**16
BODY_LIMIT = 2**29
"""Largest JSON object and largest content of a frame, in bytes."""

IDLE_S, WORK_S, TURN_S = 600.0, 110.0, 60.0
"""Seconds without a request and of one request, after which the agent ends; seconds to wait for another agent."""

TIMED_OUT = 3
"""Exit code after one of these times."""

MOST_RUNS = 10_000  # of a block
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
ROLES = ("candidate", "reference")
CPU_PROVIDERS = ["CPUExecutionProvider"]
Ask = Mapping[str, Any]

_WRONG_FRAME, _WRONG_ASK = ("frame", "too_large", "hash"), ("request", "no_model")
ERRORS = (*_WRONG_FRAME, *_WRONG_ASK, "no_runtime", "provider", "cannot_load", "cannot_run", "in_use", "memory")
"""Texts of the ValueErrors that are answers.

frame, too_large, hash: the frame is wrong, and the agent ends. request: unknown, or with a wrong value.
no_runtime: onnxruntime is not installed. provider: onnxruntime does not use it. no_model: nothing was sent.
cannot_load, cannot_run: by the runtime. in_use: another agent measured for TURN_S. memory: there was not enough.
"""


def pack(header: Ask, body: bytes = b"") -> bytes:
    """Return a frame; ValueError for numbers that are not finite."""
    text = json.dumps(header, allow_nan=False).encode()
    return PREFIX.pack(MAGIC, len(text), len(body), hashlib.sha256(text + body).digest()) + text + body


def read_frame(read: Callable[[int], bytes], *, body_limit: int = BODY_LIMIT) -> tuple[dict[str, Any], bytes]:
    """Read a frame; ValueError if it is wrong. Its sizes are checked before its content is read.

    read: returns this number of bytes, or raises an exception.
    """
    magic, header_size, body_size, digest = PREFIX.unpack(read(PREFIX.size))
    if magic != MAGIC:
        raise ValueError("frame")
    if header_size > HEADER_LIMIT or body_size > body_limit:
        raise ValueError("too_large")
    text, body = read(header_size), read(body_size)
    if hashlib.sha256(text + body).digest() != digest:
        raise ValueError("hash")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("frame") from error
    if not isinstance(header, dict):
        raise ValueError("frame")
    return header, body


def facts() -> dict[str, Any]:
    """Return the processor, the system and the runtime. Names of the host and of its boot are hashed."""
    pairs = (line.partition(":") for line in _text("/proc/cpuinfo").split("\n\n")[0].splitlines())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    present = (fields.get("flags") or fields.get("Features") or "").split()
    cpu = fields.get("model name") or _text("/proc/device-tree/model") or platform.processor() or platform.machine()
    return {
        "protocol": PROTOCOL,
        "kind": "onnxruntime",
        "cpu": cpu[:200],
        "cores": _cores(),
        "flags": present[:500],
        "system": platform.system() + " " + platform.machine(),
        "python": platform.python_version(),
        "runtime": _runtime_version(),
        "host": _hashed(platform.node()),
        "boot": _hashed(_text("/proc/sys/kernel/random/boot_id")),
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _runtime_version() -> str:
    try:
        return metadata.version("onnxruntime")
    except metadata.PackageNotFoundError:  # other builds have other names
        return str(_runtime().__version__)


def _runtime() -> Any:
    try:
        return __import__("onnxruntime")  # it takes a second
    except ImportError as error:
        raise ValueError("no_runtime") from error


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else "unknown"


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip().strip("\0")
    except OSError:
        return ""


class Net:
    """A model that runs one fixed batch repeatedly, in blocks of at least `block_ms` and `fewest` runs."""

    def __init__(self, session: Any, batch: Mapping[str, Any], *, alone: bool, block_ms: float, fewest: int) -> None:
        fine = time.get_clock_info("thread_time").resolution <= 1e-6
        # the CPU clock of a thread does not see other threads and chips
        self._clock = time.thread_time if alone and fine else time.perf_counter
        self._run: Callable[[], object] = lambda: session.run(None, batch)
        try:
            self._run()
        except Exception as error:  # the runtime's exceptions have no common root
            raise ValueError("cannot_run") from error
        self._repeats = min(max(fewest, round(block_ms / self._warm_up_ms())), MOST_RUNS)

    def runs_ms(self) -> list[float]:
        """Return the milliseconds of each run of one block."""
        return [self._seconds() * 1e3 for _ in range(self._repeats)]

    def block_ms(self) -> float:
        """Return the milliseconds per run of one block: the median."""
        return statistics.median(self.runs_ms())

    def _warm_up_ms(self) -> float:
        times: list[float] = []
        while len(times) < 5 and sum(times) < 0.02:
            times.append(self._seconds())
        return max(min(times) * 1e3, 1e-3)

    def _seconds(self) -> float:
        start = self._clock()
        self._run()
        return self._clock() - start


class Agent:
    """The models and inputs received so far, by role, and the answers about them."""

    def __init__(self) -> None:
        self._models: dict[str, bytes] = {}
        self._inputs: dict[str, dict[str, Any]] = {}
        self._answers = {"net": self._keep, "optimise": self._optimise, "level": self._level, "time": self._time}

    def answer(self, ask: Ask, body: bytes) -> tuple[dict[str, Any], bytes]:
        """Return the answer to a request; ValueError if there is none."""
        name, number = ask.get("request"), ask.get("number")
        if name == "hello":
            return {**facts(), "request": name, "number": number}, b""
        if name not in self._answers:
            raise ValueError("request")
        header, content = self._answers[name](ask, body)
        return {**header, "request": name, "number": number}, content

    def _keep(self, ask: Ask, body: bytes) -> tuple[dict[str, Any], bytes]:
        role, size = ask.get("role"), _count(ask, "model_bytes", len(body))
        if role not in ROLES:
            raise ValueError("request")
        self._models[role], self._inputs[role] = body[:size], _arrays(ask.get("inputs"), body[size:])
        return {"model": self._digest(role)}, b""

    def _optimise(self, ask: Ask, body: bytes) -> tuple[dict[str, Any], bytes]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimised.onnx"
            self._session("candidate", 1, _providers(ask), optimised=path)
            return {"model": self._digest("candidate")}, path.read_bytes()

    def _level(self, ask: Ask, body: bytes) -> tuple[dict[str, Any], bytes]:
        seconds, reference = _number(ask, "seconds", 20), self._net("reference", ask, CPU_PROVIDERS)
        seen: list[float] = []
        with _turn():
            end = time.perf_counter() + seconds
            while not seen or time.perf_counter() < end:
                seen.append(reference.block_ms())
        return {}, _doubles(seen)

    def _time(self, ask: Ask, body: bytes) -> tuple[dict[str, Any], bytes]:
        """Answer with rows of the reference before, the reference after, and the runs of the candidate."""
        candidate = self._net("candidate", ask, _providers(ask))
        reference, rows = self._net("reference", ask, CPU_PROVIDERS), []
        blocks, fast_ms, gate = _count(ask, "blocks", 1000), _number(ask, "fast_ms", 1e7), _number(ask, "gate", 10)
        patience, time_limit = _number(ask, "patience_s", 60), _number(ask, "time_limit_s", 60)
        with _turn():
            started = time.perf_counter()
            seen, count, hopeful = [reference.block_ms()], 0, started + patience
            while count < blocks:
                runs, after = candidate.runs_ms(), reference.block_ms()
                rows.append([seen[-1], after, *runs])
                seen.append(after)
                if len(seen) > 2:  # a single outlier cannot set the level
                    fast_ms = min(fast_ms, sorted(seen)[2])
                fast, now = sum(max(row[:2]) <= gate * fast_ms for row in rows), time.perf_counter()
                count, hopeful = fast, now + patience if fast > count else hopeful
                if now >= min(hopeful, started + time_limit):
                    break
        return {"model": self._digest("candidate"), "rows": len(rows)}, _doubles(rows)

    def _digest(self, role: str) -> str:
        return hashlib.sha256(self._models[role]).hexdigest()

    def _net(self, role: str, ask: Ask, providers: list[str]) -> Net:
        threads = _count(ask, "threads", _cores())
        return Net(
            self._session(role, threads, providers),
            self._inputs[role],
            alone=threads == 1 and providers == CPU_PROVIDERS,
            block_ms=_number(ask, role + "_block_ms", 1000),
            fewest=_count(ask, "fewest", MOST_RUNS) if role == "candidate" else 1,
        )

    def _session(self, role: str, threads: int, providers: list[str], optimised: Path | None = None) -> Any:
        if role not in self._models:
            raise ValueError("no_model")
        runtime, model = _runtime(), self._models[role]
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        if threads > 1:  # else idle threads of one session slow down another
            options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3
        if optimised is not None:
            options.optimized_model_filepath = str(optimised)
        known = set(providers) <= set(runtime.get_available_providers())
        try:
            session = runtime.InferenceSession(model, options, providers=providers) if known else None
        except Exception as error:  # the runtime's exceptions have no common root
            raise ValueError("cannot_load") from error
        if session is None or session.get_providers()[: len(providers)] != providers:
            raise ValueError("provider")
        return session


def _number(ask: Ask, name: str, most: float) -> float:
    value: Any = ask.get(name)
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise ValueError("request")
    return float(value)


def _count(ask: Ask, name: str, most: int) -> int:
    value: Any = ask.get(name)
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError("request")
    return int(value)


def _providers(ask: Ask) -> list[str]:
    names = ask.get("providers")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("request")
    return names


def _arrays(described: object, body: bytes) -> dict[str, Any]:
    """Return the arrays of a content, which must be used up by them."""
    import numpy as np

    found, start = {}, 0
    for each in described if isinstance(described, list) else []:
        shape: Any = each.get("shape") if isinstance(each, dict) else None
        whole = isinstance(shape, list) and all(type(size) is int and 0 <= size <= BODY_LIMIT for size in shape)
        if not whole or each.get("dtype") not in DTYPES or not isinstance(each.get("name"), str):
            raise ValueError("request")
        dtype, count = np.dtype(each["dtype"]), math.prod(shape)
        if count * dtype.itemsize > len(body) - start:
            raise ValueError("request")
        found[each["name"]] = np.frombuffer(body, dtype, count, start).reshape(shape)
        start += count * dtype.itemsize
    if start != len(body):
        raise ValueError("request")
    return found


def _doubles(values: Any) -> bytes:
    import numpy as np

    return np.asarray(values, dtype="<f8").tobytes()


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Measure alone: agents of one file wait for each other, on systems with `flock`."""
    try:
        import fcntl

        file = Path(__file__).open("rb")  # noqa: SIM115
    except (ImportError, NameError, OSError):
        yield
        return
    with file:
        end = time.monotonic() + TURN_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > end:
                    raise ValueError("in_use") from error
                time.sleep(0.01)
        yield


def start_watchdog() -> Callable[[float], None]:
    """Start a thread that ends the process, also inside the runtime. Return the function that sets its seconds."""
    end = [time.monotonic() + IDLE_S]

    def watch() -> None:
        while time.monotonic() < end[0]:
            time.sleep(1)
        os._exit(TIMED_OUT)

    def restart(seconds: float) -> None:
        end[0] = time.monotonic() + seconds

    threading.Thread(target=watch, daemon=True).start()
    return restart


def serve(source: BinaryIO, out: BinaryIO) -> None:
    """Answer requests until the input ends or a frame is wrong."""

    def read(count: int) -> bytes:
        content = source.read(count)
        if len(content) < count:
            raise EOFError
        return content

    agent, restart = Agent(), start_watchdog()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            restart(IDLE_S)
            number, ends = 0, True
            try:
                ask, body = read_frame(read)
                restart(WORK_S)
                number, ends = ask.get("number", 0), False
                header, content = agent.answer(ask, body)
            except (ValueError, MemoryError) as error:
                code = "memory" if isinstance(error, MemoryError) else str(error)
                code, number = code if code in ERRORS else "request", number if isinstance(number, int) else 0
                header, content = {"error": code, "number": number}, b""
            out.write(pack(header, content))
            out.flush()
            if ends:
                return


def main() -> int:
    """Serve one host over standard input and output."""
    if sys.stdin.isatty():
        sys.stderr.write("This program is started by nas-compress on another machine, as the command of a device.\n")
        return 2
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get into a frame
    serve(sys.stdin.buffer, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
