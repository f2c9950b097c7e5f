"""The floor of the accuracy of interest: above the teacher it ends the run, below it the study goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from nas_compress.search.setup import gather
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


def test_the_sampler_gets_the_higher_of_floor_and_budget_and_the_teachers_figure(tmp_path: Path) -> None:
    path = write_study(
        tmp_path, ('sampler = "random"', "accuracy_floor = 0.3"), extra="[budgets.accuracy]\nloss_at_most = 0.1\n"
    )
    parts = gather(read_study(path))
    assert parts.floor == 0.3 and parts.teacher_quality is None  # the teacher is not measured yet
    measured = replace(parts, teacher_figures={"accuracy": 0.9})
    assert measured.floor == pytest.approx(0.8) and measured.teacher_quality == 0.9
    assert replace(parts, teacher_figures={"accuracy": 0.35}).floor == 0.3
