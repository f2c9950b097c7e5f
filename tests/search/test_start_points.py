"""What a study tries first, and that it tries it once."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas_compress.config.search_space import check_given, load_space
from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.preflight.feasibility import draw_candidates
from nas_compress.search.run import run_study
from nas_compress.search.setup import gather
from nas_compress.search.start_points import queue_start_points, start_points
from nas_compress.search.storage.attribute_names import POINT, STARTED
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
    sizes = [r.outcome.measured.figures["parameters"] for r in records if r.outcome.measured is not None]
    assert sizes[1] == min(sizes) and sizes[2] == max(sizes)
    assert len(records) == 6


@pytest.mark.slow
def test_runs_that_begin_together_try_each_start_point_once(tmp_path: Path, untrained: None) -> None:
    study = write(tmp_path / "study", 'start = ["smallest", "largest"]')
    parts, url = gather(read_study(study)), f"sqlite:///{tmp_path}/study.db"
    run_study(study, trials=1, storage=url)
    shared = optuna.load_study(study_name="tiny", storage=url)
    shared.set_user_attr(STARTED, False)
    queue_start_points(shared, parts)
    assert len(shared.trials) == 2, "they were queued before this run began"
    for point in (0, 1, 1):  # and here by runs that saw none of them
        shared.enqueue_trial({"family": "resnet", "width_multiplier": 1.0}, user_attrs={POINT: point})
    run_study(study, trials=3, storage=url)
    points = [trial.user_attrs.get(POINT) for trial in shared.trials if trial.state == TrialState.COMPLETE]
    assert points == [0, 1, None]


def test_what_a_start_point_leaves_open_is_filled(tmp_path: Path, untrained: None) -> None:
    run_study(write(tmp_path / "study", 'enqueue = [{ family = "mobilenet" }]'), trials=1)
    (record,) = read_records(RunFolder(root=tmp_path / "runs" / "tiny"))
    assert record.params["family"] == "mobilenet" and "width_multiplier" in record.params


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ('{ family = "vgg" }', "family in ['resnet', 'mobilenet'] must hold, but got family='vgg'"),
        ("{ familly = 1 }", "every parameter must be searched together with the others given, but got 'familly'"),
        ("{ width_multiplier = 0.3 }", "width_multiplier in [0.25, 0.5, 0.75, 1.0] must hold"),
        ("{ width_multiplier = nan }", "values must be finite numbers, strings, true or false, but got width_mult"),
        ("{ width_multiplier = [1] }", "values must be finite numbers, strings, true or false, but got width_mult"),
    ],
)
def test_a_start_point_outside_the_space_is_refused(given: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as refused:
        run_study(write(tmp_path / "study", f"enqueue = [{given}]"))
    assert words in str(refused.value) and "search.enqueue" in str(refused.value)
    assert not (tmp_path / "runs").exists()


def test_what_only_some_branches_ask_for_needs_their_choice_too(tmp_path: Path) -> None:
    (tmp_path / "space.py").write_text(
        "from nas_compress.values.candidate import Candidate\n\n\n"
        "def suggest(trial):\n"
        '    ratio = trial.suggest_float("ratio", 0.0, 0.9, step=0.1)\n'
        '    criterion = trial.suggest_categorical("criterion", ["l1", "l2"]) if ratio else "uniform"\n'
        '    return Candidate(family="resnet", depths=(1, 1, 1), pruning_ratio=ratio, pruning_criterion=criterion)\n'
    )
    space = load_space("space.py", folder=tmp_path, shipped=tmp_path)
    with pytest.raises(RequestError, match=r"but got 'criterion' \(here\); give the parameters that it depends on too"):
        check_given(space, {"criterion": "l2"}, where="here")
    check_given(space, {"criterion": "l2", "ratio": 0.3}, where="here")  # 0.1 + 0.1 + 0.1 is not 0.3
    with pytest.raises(RequestError, match=r"ratio in \[0.0, 0.1, 0.2, 0.3, .* must hold, but got ratio=0.35"):
        check_given(space, {"ratio": 0.35}, where="here")


def test_the_teachers_depths_count_where_they_are_the_familys(tmp_path: Path) -> None:
    space = (
        "from nas_compress.values.candidate import Candidate\n\n\n"
        "def suggest(trial):\n"
        '    depth = trial.suggest_int("depth", 1, 3)\n'
        '    width = trial.suggest_categorical("width", [0.5, 1.0])\n'
        '    return Candidate(family="resnet", depths=(1, depth, 1), width_multiplier=width)\n'
    )
    study = write_study(tmp_path / "study", ("[search]", '[search]\nstart = ["teacher"]'), space=space)
    parts = gather(read_study(study))
    sized, _ = draw_candidates(parts)
    assert start_points(parts, sized) == [{"depth": 1, "width": 1.0}]
