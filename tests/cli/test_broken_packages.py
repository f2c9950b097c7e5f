"""Packages that others import if they are installed, but that raise other errors: no command needs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fresh_process import run_commands

BROKEN = ("torchvision", "timm", "redis", "boto3", "datasets", "transformers", "pandas", "distributed")
"""Packages of users and of extras, and those that ptflops, portalocker, Optuna and scikit-learn import if they can."""

OWN_CODE = """
try:
    import torchvision
except Exception as error:
    print("own", type(error).__name__)
"""


@pytest.mark.parametrize("error", ["RuntimeError", pytest.param("OSError", marks=pytest.mark.slow)])
def test_every_command_works_with_broken_packages(error: str, finished: Path, tmp_path: Path) -> None:
    for name in BROKEN:
        (tmp_path / f"{name}.py").write_text(f"raise {error}('operator {name}::nms does not exist')\n")
    run, study, model = finished / "run", finished / "study", tmp_path / "bundle" / "model.onnx"
    shared = ("run", study, "--out", tmp_path / "other", "--storage", "sqlite:///x.db", "--shared")
    done = run_commands(
        ("list", "losses"),
        ("show", run),
        ("status", run),
        ("plot", run, "--out", tmp_path / "front.png"),
        ("report", run, "--out", tmp_path / "report.html"),
        ("export", run, "--out", model.parent),
        ("measure", model, "--study", study),
        ("run", study, "--out", tmp_path / "run", "--trials", 1),
        (*shared, "s3://bucket"),
        (*shared, tmp_path / "shared", "--on", "dask"),
        cwd=tmp_path,
        before=tmp_path,
        then=OWN_CODE,
    )
    assert done.codes == [0] * 8 + [2] * 2, done.err
    for name in ("boto3", "distributed"):
        assert f"which is broken here ({error}: operator {name}::nms does not exist): pip install" in done.err
    assert done.out.splitlines()[-1] == f"own {error}", "the user's own code gets the error itself"
