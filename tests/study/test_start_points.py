"""What a study tries first, and that it tries it once."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.study.run import run_study
from running import write_study


def write(folder: Path, search: str) -> Path:
    return write_study(folder, ('sampler = "random"', f'sampler = "random"\n{search}'))


def test_the_start_points_come_first_and_once(tmp_path: Path, untrained: None) -> None:
    search = 'start = ["smallest", "largest", "teacher"]\nenqueue = [{ family = "mobilenet", width_multiplier = 0.5 }]'
    study = write(tmp_path / "study", search)
    run_study(study, trials=2)
    run_study(study, trials=6)
    records = read_records(RunFolder(root=tmp_path / "runs" / "tiny"))
    params = [(record.params["family"], record.params["width_multiplier"]) for record in records]
    assert params[0] == ("mobilenet", 0.5)
    assert params[3] == ("resnet", 1.0), "the teacher is a resnet of that width"
    sizes = [r.outcome.measured.parameters for r in records if r.outcome.measured is not None]
    assert sizes[1] == min(sizes) and sizes[2] == max(sizes)
    assert len(records) == 6


def test_what_a_start_point_leaves_open_is_filled(tmp_path: Path, untrained: None) -> None:
    run_study(write(tmp_path / "study", 'enqueue = [{ family = "mobilenet" }]'), trials=1)
    (record,) = read_records(RunFolder(root=tmp_path / "runs" / "tiny"))
    assert record.params["family"] == "mobilenet" and "width_multiplier" in record.params


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ('{ family = "vgg" }', "family in ['resnet', 'mobilenet'] must hold, but got family='vgg'"),
        ("{ familly = 1 }", "every parameter must be searched beside the others given, but got 'familly'"),
        ("{ width_multiplier = 0.3 }", "width_multiplier in [0.25, 0.5, 0.75, 1.0] must hold"),
    ],
)
def test_a_start_point_outside_the_space_is_refused(given: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as refused:
        run_study(write(tmp_path / "study", f"enqueue = [{given}]"))
    assert words in str(refused.value) and "search.enqueue[0]" in str(refused.value)
    assert not (tmp_path / "runs").exists()
