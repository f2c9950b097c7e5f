"""Measure seconds per look-up and the spread of repeats on each kind of device.

    python benchmarks/devices.py [--quick] [--command WORD ...]

Three convolution stacks are measured 20 times each (5 with --quick), patient as at the end of a study, on each
installed device of `nas-compress list devices` and by an agent as a process of this machine. `--command`, the last
option, adds the device of a command, such as `--command ssh -T pi@raspberrypi 'python3 agent.py'`. Percentages are of
the median. The first figure, before which a device is started and learns its fast level, is apart.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from latency import STACKS, conv_stack
from nas_compress.devices.protocol import Device
from nas_compress.devices.remote import agent
from nas_compress.devices.remote.device import open_remote
from nas_compress.devices.table import DEVICES, open_device
from nas_compress.errors import RequestError
from nas_compress.values.device_settings import DEFAULT_SETTINGS


def devices(command: list[str]) -> dict[str, Device]:
    """Open all devices that this machine has, by the name of their row."""
    found: dict[str, Device] = {}
    for name, entry in DEVICES.items():
        try:
            if entry.make is not None:
                found[name] = open_device(name)
        except RequestError as error:
            print(f"{name}: {error}")
    found["agent by pipe"] = open_remote(DEFAULT_SETTINGS, [sys.executable, agent.__file__])
    if command:
        found["agent by command"] = open_remote(DEFAULT_SETTINGS, command)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="5 repeats instead of 20")
    parser.add_argument("--command", nargs=argparse.REMAINDER, default=[], help="program and arguments of a device")
    given = parser.parse_args()
    repeats = 5 if given.quick else 20
    print("| device | net | ms | largest - smallest, % | first look-up, s | look-up, s: median [largest] | noisy |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, device in devices(given.command).items():
            for net, sizes in STACKS.items():
                model = Path(folder) / "stack.onnx"
                model.write_bytes(conv_stack(*sizes))
                found, seconds = [], []
                for _ in range(repeats + 1):
                    start = time.perf_counter()
                    found.append(device.latency(model, patient=True))
                    seconds.append(time.perf_counter() - start)
                first, *later = seconds
                times = [each.latency_ms for each in found[1:]]
                median = statistics.median(times)
                spread = 100 * (max(times) - min(times)) / median
                took = f"{first:.2f} | {statistics.median(later):.2f} [{max(later):.2f}]"
                noisy = f"{sum(each.noisy for each in found[1:])} of {repeats}"
                print(f"| {name} | {net} | {median:.4f} | {spread:.1f} | {took} | {noisy} |", flush=True)


if __name__ == "__main__":
    main()
