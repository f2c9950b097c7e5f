"""A run as a process that kills itself at a named call, as a power cut would."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import running


@dataclass(frozen=True, kw_only=True)
class Death:
    """A place to die: after the given call of a function, counted from 1 in this process.

    module: where the caller looks the function up.
    """

    module: str
    function: str
    call: int = 1

    def __str__(self) -> str:
        return f"{self.module.removeprefix('nas_compress.')}.{self.function}-{self.call}"


def run_and_die(arguments: Sequence[object], death: Death | None, *, cwd: Path, cache: Path, log: Path) -> int:
    """Run `nas-compress ...` in a process of its own, every epoch of which is checkpointed; its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(running.PRELOADED)
    words = [str(word) for word in arguments]
    process: ForkServerProcess = context.Process(target=_child, args=(death, words, cwd, cache, log))
    process.start()
    process.join(300)
    assert process.exitcode is not None, "the run does not end"
    return process.exitcode


def _child(death: Death | None, arguments: list[str], cwd: Path, cache: Path, log: Path) -> None:
    checkpoint = importlib.import_module("nas_compress.training.checkpoint")
    checkpoint.COST = float("inf")  # type: ignore[attr-defined]
    if death is not None:
        module = importlib.import_module(death.module)
        setattr(module, death.function, _deadly(getattr(module, death.function), death.call))
    running._child(arguments, cwd, cache, log, 0, 0)


def _deadly(function: Callable[..., Any], call: int) -> Callable[..., Any]:
    calls = 0

    def wrapped(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        result = function(*given, **named)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped
