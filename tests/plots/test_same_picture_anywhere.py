"""The bytes of a picture do not depend on matplotlib's variables, settings files and global state."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import nas_compress

DRAW = """
import hashlib, os, sys
from nas_compress.plots.progress_curves import curve_picture
from nas_compress.plots.pareto import front_picture
from fronts import front
drawn = front_picture(front.__wrapped__(), title="a study").png()
curve = curve_picture([(1, 0.5), (2, 0.75)], planned=4, title="trial 3").png()
import matplotlib
print(hashlib.sha256(drawn + curve).hexdigest(), matplotlib.rcParams._get("backend"), matplotlib.rcParams["font.size"])
"""

SETTINGS = "text.usetex: True\nfont.family: No Such Font\nsavefig.dpi: 30\naxes.facecolor: red\nfont.size: 31\n"


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[..., list[str]]:
    """Draw in a new process; return the hash of the pictures, the backend and the font size of matplotlib."""

    def draw(*, before: str = "", folder: Path = tmp_path, **variables: object) -> list[str]:
        places = [str(Path(nas_compress.__file__).parents[1]), str(Path(__file__).parents[1])]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "MATPLOTLIB"))}
        changed = {name: str(value) for name, value in variables.items()}
        return subprocess.run(
            [sys.executable, "-c", before + DRAW],
            env=kept | {"PYTHONPATH": os.pathsep.join(places)} | changed,
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()

    return draw


@pytest.mark.slow
def test_a_picture_has_the_same_bytes_in_any_surroundings(drawn: Callable[..., list[str]], tmp_path: Path) -> None:
    picture = drawn()[0]
    foreign, damaged = tmp_path / "foreign", tmp_path / "damaged"
    for folder, content in ((foreign, SETTINGS.encode()), (damaged, b"\xff\xfe\x00")):
        folder.mkdir()
        (folder / "matplotlibrc").write_bytes(content)
    # set by a notebook for every process that it starts; the package is not installed here
    assert drawn(MPLBACKEND="module://no_such_package.backend_inline")[0] == picture
    answer = drawn(MATPLOTLIBRC=foreign)
    assert (answer[0], answer[-1]) == (picture, "31.0")
    assert drawn(folder=damaged)[0] == drawn(MATPLOTLIBRC=damaged)[0] == picture
    assert drawn(before="import matplotlib.pyplot; matplotlib.pyplot.style.use('dark_background')\n")[0] == picture
    assert drawn(MPLCONFIGDIR="/dev/null/nothing", HOME="/dev/null/nothing")[0] == picture


def test_the_callers_own_figures_keep_their_backend_and_settings(drawn: Callable[..., list[str]]) -> None:
    assert drawn(MPLBACKEND="svg")[1] == "svg"
    assert drawn(before="import matplotlib; matplotlib.rcParams['font.size'] = 17\n", MPLBACKEND="pdf")[1:] == [
        "pdf",
        "17.0",
    ]
