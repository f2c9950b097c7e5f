"""Description of the machine behind a latency."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from nas_compress.values.device_settings import DeviceSettings

DEFAULT_NAME = "onnxruntime_cpu"
"""Name of the device with the machine's own key as fingerprint."""

_X86_FLAGS = "avx2 fma avx_vnni avx512f avx512bw avx512_vnni avx512_bf16 amx_int8 amx_bf16"
_ARM_FLAGS = "asimd asimddp i8mm bf16 sve"
KNOWN_FLAGS = tuple(f"{_X86_FLAGS} {_ARM_FLAGS}".split())
"""Features of processors that kernels use, as /proc/cpuinfo names them."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Processor and versions behind a figure.

    key: 16 hexadecimal digits; latencies of two machines are comparable only if it is equal. It hashes the host's name
    (so that records need not publish it), the processor and the runtime's version.
    """

    cpu: str
    cores: int
    flags: tuple[str, ...]
    system: str
    python: str
    onnxruntime: str
    torch: str | None
    key: str

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} cores, onnxruntime {self.onnxruntime}, {self.system}"


def describe_machine() -> Machine:
    """Describe the machine of this process without importing any framework."""
    processor = _processor_fields()
    cpu = processor.get("model name") or platform.processor() or platform.machine()
    present = (processor.get("flags") or processor.get("Features") or "").split()
    runtime = _version("onnxruntime") or "unknown"
    identity = "\n".join((platform.node(), cpu, runtime))
    return Machine(
        cpu=cpu,
        cores=os.cpu_count() or 1,
        flags=tuple(name for name in KNOWN_FLAGS if name in present),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        onnxruntime=runtime,
        torch=_version("torch"),
        key=hashlib.sha256(identity.encode()).hexdigest()[:16],
    )


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def settings_key(machine: str, device: str, settings: DeviceSettings) -> str:
    """Return the fingerprint of a device; the machine's own key for the default device and settings.

    machine: key of the machine. device: name in the table of devices.
    """
    if device == DEFAULT_NAME and settings.are_default:
        return machine
    identity = json.dumps([machine, device, settings.to_dict()], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def integer_caution(machine: Mapping[str, Any]) -> str:
    """Return a line about 8-bit kernels on a described machine; empty if there is none.

    Without VNNI or AMX an x86 processor adds pairs of products in 16 bits (VPMADDUBSW): two of 255 * 127 saturate.
    """
    system, flags = str(machine.get("system", "")), machine.get("flags", ())
    if not system.endswith(("x86_64", "AMD64")) or not {"avx512_vnni", "avx_vnni", "amx_int8"}.isdisjoint(flags):
        return ""
    return (
        "this processor has neither VNNI nor AMX: sums in its 8-bit kernels may saturate, so an int8 file can be "
        "less accurate and slower here than on one that has them"
    )


def boot_name() -> str:
    """Return a name that changes with each boot; "unknown" if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def _processor_fields() -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo; empty on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    first = text.strip().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
