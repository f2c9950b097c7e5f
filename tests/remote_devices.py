"""Agents in processes of this machine: honest ones, and ones that answer wrongly."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nas_compress.devices.onnxruntime_cpu.latency_cache import LatencyCache
from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import FastLevel
from nas_compress.devices.onnxruntime_cpu.reference_net import REFERENCE_NAME
from nas_compress.devices.remote import agent, latency
from nas_compress.devices.remote.connection import Connection
from nas_compress.devices.remote.device import RemoteDevice
from nas_compress.devices.remote.latency import RemoteMeter
from nas_compress.devices.remote.link import Limits
from nas_compress.values.device_settings import DEFAULT_SETTINGS, DeviceSettings
from timing import SAFE_BLOCKS

AGENT = [sys.executable, agent.__file__]
"""The command of an agent on this machine."""

PATIENT = Limits(start_s=300.0, answer_s=300.0)
"""No honest agent reaches these times, however busy the machine is."""


def measure_quickly(patch: pytest.MonkeyPatch) -> None:
    """Read latencies of remote devices quickly, for tests that compare none."""
    patch.setattr(latency, "_LEARN_S", 0.1)
    patch.setitem(RemoteMeter.__init__.__kwdefaults__, "time_limit_s", 0.2)
    patch.setitem(RemoteMeter.__init__.__kwdefaults__, "blocks", SAFE_BLOCKS)


def changed_agent(folder: Path, change: str) -> list[str]:
    """Return the command of an agent with other code. change: statements that see the module as `agent`.

    A function `answer(self, ask, body)` among them replaces the agent's own one, `honest`.
    """
    script = folder / "changed.py"
    script.write_text(
        "import os, struct, sys, time\n"
        f"sys.path.insert(0, {str(Path(agent.__file__).parent)!r})\n"
        "import agent\n"
        "honest = agent.Agent.answer\n"
        "answer = honest\n"
        f"{change}\n"
        "agent.Agent.answer = answer\n"
        "sys.exit(agent.main())\n"
    )
    return [sys.executable, str(script)]


def remote_device(command: Sequence[str] = AGENT, settings: DeviceSettings = DEFAULT_SETTINGS) -> RemoteDevice:
    """Start a device whose first figure is not noisy."""
    connection = Connection(command, limits=PATIENT)
    learned_level_of(connection, settings)
    return quick_device(connection, settings)


def learned_level_of(connection: Connection, settings: DeviceSettings) -> None:
    """Keep a fast level that every state of the machine reaches."""
    file = RemoteMeter(connection, settings=settings).file
    LatencyCache(file, boot=connection.facts.boot, reference=REFERENCE_NAME).keep(FastLevel(fast_ms=1000.0), {})


def quick_device(connection: Connection, settings: DeviceSettings) -> RemoteDevice:
    return RemoteDevice(RemoteMeter(connection, settings=settings, blocks=SAFE_BLOCKS))
