"""Commands that read a run folder or a bundle import no code from it, wherever they are started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nas_compress.files import write_sealed_json
from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records

TRAP = "from pathlib import Path\nPath({marker!r}).open('a').write(__file__ + '\\n')\n"
"""A module that leaves a mark when it is imported."""

NAMED = ("own_data", "own_net", "own_space", "own_backend")
"""Modules named by run.json, by config.json and by matplotlibrc."""

LIBRARIES = (
    *("torch", "optuna", "matplotlib", "numpy", "onnx", "onnxruntime", "jinja2", "plotly", "click", "rich", "pandas"),
    *("sklearn", "optuna_dashboard", "sqlalchemy", "yaml", "json", "typing", "sitecustomize", "usercustomize"),
)
"""Modules with the names of libraries."""

STUDY = {"space": "own_space.py", "data": {"factory": "own_data:load"}}
TEACHER = {"factory": "own_net:build", "weights": "own.pt"}

SCRIPT = """
import sys
from nas_compress.cli.main import main
sys.exit(main())
"""
"""The text of the installed script."""

DRIVER = """
import json, os, sys, threading, urllib.request
from nas_compress.cli.main import commands
from nas_compress.errors import RunError

run, model, out, *places = sys.argv[1:]


def tell(*words):
    try:
        commands.main(list(words), prog_name="nas-compress", standalone_mode=False)
    except RunError as error:
        if words[0] != "verify":  # the front was written for another run.json
            raise
    except Exception as error:
        sys.exit(f"{words}: {type(error).__name__}: {error}")


def serve():
    from nas_compress.dashboard.server import dashboard_server
    from nas_compress.runs.folder import open_run

    with dashboard_server(open_run(run), port=0, host="127.0.0.1") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for page in ("dashboard", "api/studies", "api/studies/0"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/{page}").read()
        server.shutdown()


for number, place in enumerate(places):
    os.chdir(place)
    for name in ("status", "show", "verify"):
        tell(name, run)
    tell("report", run, "--out", f"{out}/{number}.html")
    if number == 0:
        tell("plot", run, "--out", f"{out}/front.png")
        tell("export", run, "--out", f"{out}/bundle")
        tell("measure", model, "--study", "digits")
        tell("list", "spaces")
        serve()
print("done")
"""


def lay_traps(folder: Path, marker: Path) -> None:
    """Fill a folder with modules, settings and pickled weights that leave a mark."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*NAMED, *LIBRARIES):
        (folder / f"{name}.py").write_text(TRAP.format(marker=str(marker)))
    (folder / "matplotlibrc").write_text("backend: module://own_backend\ntext.usetex: True\n")
    (folder / "own.pt").write_bytes(b"cos\nsystem\n(S'touch %s'\ntR." % str(marker).encode())


@pytest.fixture
def hostile(finished: Path, tmp_path: Path) -> Path:
    """A folder with traps everywhere: `run/`, its bundle `bundle/`, the recorded `study/`, and the folder itself."""
    root = tmp_path / "hostile"
    run = RunFolder(root=shutil.copytree(finished / "run", root / "run"))
    trial = next(record.trial for record in read_records(run) if record.outcome.state == "trained")
    about = run.about()
    study = {**about["study"], **STUDY, "teacher": {**about["study"]["teacher"], **TEACHER}}
    run.start({**about, "study": study, "study_folder": str(root / "study")})
    export_bundle(run, trial, root / "bundle")
    config = json.loads((root / "bundle" / "config.json").read_text())
    write_sealed_json(root / "bundle" / "config.json", {**config, "study_folder": str(root / "study")})
    for folder in (root, root / "run", root / "bundle", root / "study"):
        lay_traps(folder, tmp_path / "marker")
    return root


def test_no_reading_command_imports_code(hostile: Path, tmp_path: Path) -> None:
    script = tmp_path / "bin" / "driver"
    script.parent.mkdir()
    script.write_text(DRIVER)
    places = [hostile / "run", hostile, tmp_path]
    words = [hostile / "run", hostile / "bundle" / "model.onnx", tmp_path / "out", *places]
    answer = subprocess.run([sys.executable, script, *words], cwd=hostile / "run", capture_output=True, text=True)
    assert answer.stdout.endswith("done\n"), answer.stderr
    assert not (tmp_path / "marker").exists(), (tmp_path / "marker").read_text()


def test_the_traps_leave_a_mark_when_they_are_imported(tmp_path: Path) -> None:
    lay_traps(tmp_path, tmp_path / "marker")
    subprocess.run([sys.executable, "-c", "import own_data, sitecustomize"], cwd=tmp_path, check=True)
    assert "own_data.py" in (tmp_path / "marker").read_text()


@pytest.mark.parametrize(("words", "imports"), [(("-m",), True), (("-P", "-m"), False), ((), False)])
def test_only_python_m_imports_from_the_working_folder(words: tuple[str, ...], imports: bool, tmp_path: Path) -> None:
    script = tmp_path / "bin" / "nas-compress"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    lay_traps(tmp_path / "here", tmp_path / "marker")
    subprocess.run(
        [sys.executable, *words, "nas_compress" if words else script, "--version"],
        cwd=tmp_path / "here", capture_output=True, env=os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )  # fmt: skip
    assert (tmp_path / "marker").exists() == imports
