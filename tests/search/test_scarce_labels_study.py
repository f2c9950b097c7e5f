"""A study with few labels, from its file to the report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nas_compress.confirm.run import confirm_run
from nas_compress.errors import RequestError
from nas_compress.report.page import report_page
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.results import read_front
from nas_compress.search.run import run_study
from running import SPACE, Told, write_study
from running import own_cache as own_cache

FEW = ("train_samples = 200", "train_samples = 200\nlabels = 40")

TAUGHT = '''"""One network, taught in two ways."""
from nas_compress.values.candidate import Candidate, LossTerm, Teaching


def suggest(trial):
    """Propose a way of teaching."""
    teacher = trial.suggest_categorical("teacher", ["fixed", "out_of_fold"])
    teaching = Teaching(teacher=teacher, folds=2 if teacher == "out_of_fold" else None)
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.25, losses=(LossTerm(name="kd"),),
                     teaching=teaching)
'''


def test_a_study_with_few_labels_confirms_its_members_against_labels_alone(tmp_path: Path) -> None:
    told = Told()
    front = run_study(write_study(tmp_path / "study", FEW, space=TAUGHT), out=tmp_path / "run", trials=2, reporter=told)
    assert any("40 of 200 training samples have a label" in line for line in told.lines)
    assert any(
        re.search(r"the teacher takes \d+ steps in .*; teacher.epochs = \d+ has 20\d$", line) for line in told.lines
    )
    folder = RunFolder(root=tmp_path / "run")
    assert folder.about()["labels"] == {"labelled": 40, "samples": 200}
    confirmation = confirm_run(folder, read_front(folder).members[:1], seeds=1)
    assert front.members and [row.role for row in confirmation.rows] == ["student", "no_teacher"]
    page = report_page(folder)
    assert "(40 of 200 training samples have a label)" in page and "no teacher" in page


def test_a_space_without_a_loss_on_the_teacher_is_refused(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", FEW, space=SPACE)
    with pytest.raises(RequestError, match=r"needs? a loss on the teacher's answers, such as kd, but no candidate"):
        run_study(study, out=tmp_path / "run", trials=1)
    assert not (tmp_path / "run").exists()


def test_more_labels_than_samples_are_refused_by_key(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", (FEW[0], FEW[1].replace("40", "201")), space=TAUGHT)
    with pytest.raises(RequestError, match=r"labels <= 200 \(training samples\) .* got labels=201 \(study.toml: data"):
        run_study(study, out=tmp_path / "run", trials=1)
