"""Packages that others import if they are installed, but that raise other errors: no command needs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nas_compress

BROKEN = ("torchvision", "timm", "redis", "boto3", "datasets", "transformers", "pandas", "distributed")
"""Packages of users and of extras, and those that ptflops, portalocker and Optuna import if they can."""

COMMANDS = """
import sys
from nas_compress.cli import main as entry

for number, line in enumerate(sys.stdin.read().splitlines()):
    sys.argv = ["nas-compress", *line.split()]
    try:
        entry.main()
    except SystemExit as leave:
        print("code", number, leave.code, flush=True)

try:
    import torchvision
except Exception as error:
    print("own", type(error).__name__)
"""


@pytest.mark.parametrize("error", ["RuntimeError", "OSError"])
def test_every_command_works_beside_broken_packages(error: str, finished: Path, tmp_path: Path) -> None:
    for name in BROKEN:
        (tmp_path / f"{name}.py").write_text(f"raise {error}('operator {name}::nms does not exist')\n")
    run, study = finished / "run", finished / "study"
    lines = [
        "list losses",
        f"show {run}",
        f"status {run}",
        f"plot {run} --out {tmp_path}/front.png",
        f"report {run} --out {tmp_path}/report.html",
        f"export {run} --out {tmp_path}/bundle",
        f"measure {tmp_path}/bundle/model.onnx --study {study}",
        f"run {study} --out {tmp_path}/run --trials 1",
        f"run {study} --out {tmp_path}/other --storage sqlite:///x.db --shared s3://bucket",
        f"run {study} --out {tmp_path}/other --storage sqlite:///x.db --shared {tmp_path}/shared --on dask",
    ]
    path = os.pathsep.join([str(tmp_path), str(Path(nas_compress.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert "Traceback" not in done.stderr, done.stderr
    codes = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("code ")]
    assert codes == ["0"] * 8 + ["2"] * 2, done.stderr
    for name in ("boto3", "distributed"):
        why = f"which is broken here ({error}: operator {name}::nms does not exist): pip install"
        assert why in done.stderr
    assert done.stdout.splitlines()[-1] == f"own {error}", "the user's own code sees the error itself"
