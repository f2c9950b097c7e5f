"""The public list, the tree of exceptions, and the imports of a first use."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nas_compress
from nas_compress import errors

PUBLIC = {
    "Candidate",
    "LossTerm",
    "Objective",
    "StudySpec",
    "run_study",
    "run_trial",
    "Outcome",
    "Front",
    "hypervolume",
    "build_student",
    "train",
    "quantize",
    "export_onnx",
    "measure",
    "NasCompressError",
}

HEAVY = ("torch", "onnx", "onnxruntime", "optuna", "pandas", "matplotlib")


def test_the_public_list_is_what_it_says() -> None:
    assert set(nas_compress.__all__) == PUBLIC
    for name in PUBLIC:
        value = getattr(nas_compress, name)
        assert value.__name__ == name
        assert inspect.getdoc(value)
    assert set(dir(nas_compress)) == PUBLIC
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nas_compress.nothing


def test_every_exception_descends_from_one_root() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(classes) >= 7
    assert all(issubclass(kind, errors.NasCompressError) for kind in classes)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in classes)


def test_no_other_module_defines_an_exception() -> None:
    root = Path(nas_compress.__file__).parent
    pattern = re.compile(r"^class \w+\(.*(Error|Exception)\)", re.MULTILINE)
    assert [path.name for path in root.rglob("*.py") if pattern.search(path.read_text())] == ["errors.py"]


@pytest.mark.parametrize(
    "code",
    [
        "import nas_compress",
        "import sys; sys.argv = ['nas-compress', '--help']; from nas_compress.cli import main; main._run()",
        "import sys; sys.argv = ['nas-compress', 'run', '--help']; from nas_compress.cli import main; main._run()",
    ],
)
def test_import_and_help_load_no_framework(code: str) -> None:
    check = f"{code}\nimport sys\nprint('loaded:', [name for name in {HEAVY} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == "loaded: []"


def test_the_package_runs_as_a_module() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "nas_compress", "status", "no-such-run"], capture_output=True, text=True
    )
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith("nas-compress: RUN must be a run folder")
    assert answer.stdout == ""
