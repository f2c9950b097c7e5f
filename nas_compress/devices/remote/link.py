"""Requests to a running agent. Every answer is checked before it is used."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import Block
from nas_compress.devices.remote.agent import BODY_LIMIT, ERRORS, HEADER_LIMIT, MAGIC, MOST_RUNS, pack, read_frame
from nas_compress.devices.remote.facts import checked_facts
from nas_compress.devices.remote.piped_command import PipedCommand
from nas_compress.errors import DeviceLostError, NasCompressError, RequestError, TrialError

Arrays = Mapping[str, NDArray[Any]]

FIGURES_LIMIT = 2**25
"""Largest content of an answer with figures, in bytes."""

LONGEST_MS = 3_600_000.0
"""Upper limit of a plausible time: an hour."""

_UNBELIEVED = {"frame": "no frame", "too_large": "too much", "hash": "content that does not match its hash"}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Longest times of a device in seconds.

    start_s: from the start of the command to the first answer. answer_s: of a request.
    bytes_per_s: slowest transfer, which adds to these times.
    """

    start_s: float = 60.0
    answer_s: float = 180.0
    bytes_per_s: float = 20_000.0


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Conditions of a recording; see the request `time` of the agent."""

    threads: int
    providers: Sequence[str]
    block_ms: float
    reference_block_ms: float
    fewest: int
    blocks: int
    fast_ms: float
    gate: float
    patience_s: float
    time_limit_s: float


class Link:
    """A running agent. facts: its processor and runtime.

    command: program and arguments. DeviceLostError if it does not answer, or wrongly. RequestError if its command
    cannot be started. TrialError if it cannot run a model.
    """

    def __init__(self, command: Sequence[str], *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._pipe = PipedCommand(command)
        self._numbers = itertools.count(1)
        self._held: dict[str, str] = {}
        self._candidate, self._candidate_bytes = "", 0
        try:
            end = time.monotonic() + limits.start_s
            number = self._send({"request": "hello"}, b"")
            self._pipe.skip_to(MAGIC, most=HEADER_LIMIT, end=end)
            header, _ = self._receive(number, "hello", body_limit=0, end=end)
            self.facts = checked_facts(header)
        except BaseException:
            self.close()
            raise

    @property
    def has_ended(self) -> bool:
        """True after the end of the command."""
        return self._pipe.has_ended

    def close(self) -> None:
        """End the agent."""
        self._pipe.close()

    def give(self, role: str, model: bytes, inputs: Arrays) -> None:
        """Send a model and its inputs for a role, `candidate` or `reference`, unless the agent holds them."""
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        described = [
            {"name": name, "dtype": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()
        ]
        body = b"".join([model, *(array.tobytes() for array in arrays.values())])
        if len(body) > BODY_LIMIT:
            raise RequestError(
                f"a model and its inputs must have at most {BODY_LIMIT} bytes on a remote device, but got {len(body)}"
            )
        held = hashlib.sha256(repr(described).encode() + body).hexdigest()
        if self._held.get(role) == held:
            return
        digest = hashlib.sha256(model).hexdigest()
        answer, _ = self._ask({"request": "net", "role": role, "model_bytes": len(model), "inputs": described}, body)
        self._require_model(answer, digest)
        self._held[role] = held
        if role == "candidate":
            self._candidate, self._candidate_bytes = digest, len(model)

    def optimised(self, providers: Sequence[str]) -> bytes:
        """Return the candidate after the optimisations of the device's runtime."""
        most = min(BODY_LIMIT, 64 * self._candidate_bytes + 2**20)  # of 1 bit, then of 32
        answer, content = self._ask({"request": "optimise", "providers": list(providers)}, body_limit=most)
        self._require_model(answer, self._candidate)
        return content

    def level(self, *, seconds: float, threads: int, reference_block_ms: float) -> list[float]:
        """Return milliseconds of the reference, one figure for each block."""
        ask = {"seconds": seconds, "threads": threads, "reference_block_ms": reference_block_ms}
        _, content = self._ask({"request": "level", **ask}, body_limit=FIGURES_LIMIT)
        return [float(value) for value in self._figures(content, rows=1)[0]]

    def record(self, recording: Recording) -> list[Block]:
        """Return the blocks of a recording of the candidate."""
        ask = {**vars(recording), "providers": list(recording.providers)}
        ask = {"candidate_block_ms" if name == "block_ms" else name: value for name, value in ask.items()}
        answer, content = self._ask({"request": "time", **ask}, body_limit=FIGURES_LIMIT)
        self._require_model(answer, self._candidate)
        rows = answer.get("rows")
        if type(rows) is not int or rows < 1:
            raise _wrong("no blocks")
        found = self._figures(content, rows=rows)
        if not 3 <= found.shape[1] <= 2 + MOST_RUNS:
            raise _wrong("no runs")
        return [
            Block(before_ms=before, after_ms=after, value_ms=median(runs), runs_ms=tuple(runs))
            for before, after, *runs in found.tolist()
        ]

    def _ask(self, ask: Mapping[str, Any], body: bytes = b"", *, body_limit: int = 0) -> tuple[dict[str, Any], bytes]:
        number = self._send(ask, body)
        transfer_s = (len(body) + min(body_limit, 4 * self._candidate_bytes)) / self._limits.bytes_per_s
        end = time.monotonic() + self._limits.answer_s + transfer_s
        return self._receive(number, str(ask["request"]), body_limit=body_limit, end=end)

    def _send(self, ask: Mapping[str, Any], body: bytes) -> int:
        number = next(self._numbers)
        end = time.monotonic() + self._limits.start_s + len(body) / self._limits.bytes_per_s
        self._pipe.write(pack({**ask, "number": number}, body), end=end)
        return number

    def _receive(self, number: int, request: str, *, body_limit: int, end: float) -> tuple[dict[str, Any], bytes]:
        try:
            header, body = read_frame(lambda count: self._pipe.read(count, end=end), body_limit=body_limit)
        except ValueError as error:
            raise _wrong(_UNBELIEVED.get(str(error), "no frame")) from None
        if "error" in header:
            raise _refused(header["error"])
        if header.get("number") != number or header.get("request") != request:
            raise _wrong("an answer to another request")
        return header, body

    def _require_model(self, answer: Mapping[str, Any], digest: str) -> None:
        if answer.get("model") != digest:
            raise _wrong("an answer for another file")

    def _figures(self, content: bytes, *, rows: int) -> NDArray[np.float64]:
        """Return times in milliseconds (rows, n); DeviceLostError unless all are finite and positive."""
        if not content or len(content) % (8 * rows):
            raise _wrong("figures that are cut off")
        found = np.frombuffer(content, "<f8").reshape(rows, -1)
        if not (np.isfinite(found) & (found > 0) & (found < LONGEST_MS)).all():
            raise _wrong("times that are not finite and positive")
        return found


def _wrong(what: str) -> DeviceLostError:
    return DeviceLostError(f"the device sent {what}; check that its command starts the agent of nas-compress")


def _refused(code: object) -> NasCompressError:
    """Return the error for an agent's own one."""
    match code if code in ERRORS else "":
        case "no_runtime":
            return DeviceLostError("the device has no onnxruntime; install onnxruntime and numpy there")
        case "provider":
            return RequestError("providers must be installed on the device, but its onnxruntime lacks one of them")
        case "cannot_load":
            return TrialError("the model must load in the onnxruntime of the device, but it does not")
        case "cannot_run":
            return TrialError("the model must run on the device, but it does not")
        case "memory":
            return TrialError("the model must fit into the memory of the device, but it does not")
        case "in_use":
            return DeviceLostError("another program measures on the device")
    return _wrong("an error that no request of this version has")
