"""Processor and runtime of a device, as its agent names them, and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas_compress.devices.onnxruntime_cpu.machine import KNOWN_FLAGS, boot_name
from nas_compress.devices.remote.agent import PROTOCOL
from nas_compress.errors import DeviceLostError
from nas_compress.values.device_settings import DeviceSettings

KIND = "onnxruntime"
"""Runtime of today's agents."""

_LONGEST = 200
_MOST_CORES = 4096


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Processor and runtime of a device.

    host, boot: hashes of the host's name and of its last boot, `unknown` if the system has none.
    """

    kind: str
    cpu: str
    cores: int
    flags: tuple[str, ...]
    system: str
    python: str
    runtime: str
    host: str
    boot: str

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} cores, {self.kind} {self.runtime}, {self.system}"

    def fingerprint(self, settings: DeviceSettings) -> str:
        """Return 16 hexadecimal digits: latencies with another one are not comparable."""
        machine = ["remote", PROTOCOL, self.kind, self.host, self.cpu, self.system, self.runtime]
        identity = json.dumps([*machine, settings.to_dict()], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()[:16]

    @property
    def is_here(self) -> bool:
        """True if the agent runs on this machine, by the name of its last boot."""
        return self.boot == hashlib.sha256(boot_name().encode()).hexdigest()[:16]

    def is_same_machine(self, other: Facts) -> bool:
        """Return True if latencies of both are comparable."""
        return self.fingerprint(DeviceSettings()) == other.fingerprint(DeviceSettings())


def checked_facts(answer: Mapping[str, Any]) -> Facts:
    """Return the facts of an agent's first answer; DeviceLostError if it is of another version or not as agreed."""
    protocol = answer.get("protocol")
    if protocol != PROTOCOL:
        got = f"protocol {protocol}" if type(protocol) is int and 0 <= protocol < _MOST_CORES else "none"
        raise DeviceLostError(
            f"the agent there must speak protocol {PROTOCOL}, but it speaks {got}; "
            "write it again with `nas-compress agent --write agent.py` and copy it there"
        )
    texts = {name: answer.get(name) for name in ("kind", "cpu", "system", "python", "runtime", "host", "boot")}
    cores, flags = answer.get("cores"), answer.get("flags")
    if (
        texts["kind"] != KIND
        or not all(
            isinstance(text, str) and text.isprintable() and 0 < len(text) <= _LONGEST for text in texts.values()
        )
        or type(cores) is not int
        or not 1 <= cores <= _MOST_CORES
        or not isinstance(flags, list)
    ):
        raise DeviceLostError("the device described itself in a way that the protocol does not have")
    return Facts(
        cores=cores,
        flags=tuple(name for name in KNOWN_FLAGS if name in flags),
        **{name: str(text) for name, text in texts.items()},
    )
