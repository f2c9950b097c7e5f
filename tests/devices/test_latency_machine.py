"""What a latency was measured on."""

import re
import subprocess
import sys

from nas_compress.devices.onnxruntime_cpu.machine import boot_name, describe_machine

SCRIPT = """
import sys
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
print(describe_machine().key, sorted({"torch", "onnxruntime", "onnx"} & set(sys.modules)))
"""


def test_the_key_is_the_same_in_another_process_which_imports_no_framework() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{describe_machine().key} []"


def test_the_machine_is_described() -> None:
    machine = describe_machine()
    assert re.fullmatch(r"[0-9a-f]{16}", machine.key)
    assert machine.cpu and machine.cores >= 1 and machine.torch
    assert machine.onnxruntime in str(machine)


def test_the_boot_keeps_its_name() -> None:
    assert boot_name() == boot_name() != ""
