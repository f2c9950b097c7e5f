from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from nas_compress.errors import RequestError
from nas_compress.plots.progress_curves import plot_hypervolume
from nas_compress.runs.front import Front


def words(path: Path) -> list[str]:
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("spacing", "unit"), [(1.0, "seconds"), (60.0, "minutes"), (7200.0, "hours")])
def test_time_has_a_fitting_unit(front: Front, tmp_path: Path, spacing: float, unit: str) -> None:
    finished = [(spacing * (order + 1), point) for order, point in enumerate(front.points)]
    plot_hypervolume(finished, front, tmp_path / "growth.svg", title="growth")
    text = words(tmp_path / "growth.svg")
    assert f"time since the study began ({unit})" in text
    assert text.count(f"{front.hypervolume():.3g}") == 2  # the last value, in both panels
    assert any("accuracy 10 %, latency 0.25 ms, file size 1.2 MB" in line for line in text)


def test_no_trial_and_one_trial_have_a_picture(front: Front, tmp_path: Path) -> None:
    for count in (0, 1):
        finished = [(0.0, point) for point in front.points[:count]]
        plot_hypervolume(finished, front, tmp_path / f"{count}.png", title="growth")
        assert (tmp_path / f"{count}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_without_a_reference_or_with_a_wrong_suffix_nothing_is_written(front: Front, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="needs a teacher"):
        plot_hypervolume([], replace(front, teacher=None), tmp_path / "growth.png", title="growth")
    with pytest.raises(RequestError, match="must end in"):
        plot_hypervolume([], front, tmp_path / "growth.txt", title="growth")
    assert not list(tmp_path.iterdir())
