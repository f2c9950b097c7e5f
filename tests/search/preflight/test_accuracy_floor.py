"""The floor of the accuracy of interest: above the teacher it ends the run, below it the study goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from running import write_study


def floored(folder: Path, floor: float) -> Path:
    return write_study(folder, ("trials = 3", "trials = 1"), ('sampler = "random"', f"accuracy_floor = {floor}"))


def test_a_floor_above_the_teacher_is_refused_and_a_lower_one_continues(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(RequestError, match=r"search.accuracy_floor <= accuracy of the teacher .* but got 0.999"):
        run_study(floored(tmp_path / "high", 0.999), out=out)
    assert not read_records(RunFolder(root=out))
    run_study(floored(tmp_path / "low", 0.2), out=tmp_path / "other")
    assert len(read_records(RunFolder(root=tmp_path / "other"))) == 1
