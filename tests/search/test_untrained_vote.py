"""What a study is told about its pruning before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError
from nas_compress.search.preflight.feasibility import draw_candidates
from nas_compress.search.setup import gather
from running import write_study

SPACE = '''"""One point."""
from nas_compress.values.candidate import Candidate


def suggest(trial):
    """Propose it."""
    return Candidate(family="resnet", depths=(1, 1, 1), {choice})
'''
OWN = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 6, 3), nn.Linear(6, 10)

    def forward(self, samples):
        return self.out(torch.relu(self.conv(samples.float())).mean((2, 3)))
"""
OWN_TEACHER = ("widths = [8, 16, 16]\n", 'factory = "my_net:Net"\nweights = "net.pt"\n')


def drawn(folder: Path, choice: str, *changes: tuple[str, str]) -> int:
    path = write_study(folder, *changes, space=SPACE.format(choice=choice))
    sized, _ = draw_candidates(gather(read_study(path)))
    return sum(width.channels for width in sized[0].architecture.widths)


def test_a_cut_that_empties_a_layer_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"space space: each layer must keep 4 channel\(s\), .* empty stem.conv"):
        drawn(tmp_path, "pruning_ratio=0.9, pruning_criterion='l1', pruning_min_channels=4")
    assert drawn(tmp_path, "pruning_ratio=0.5, pruning_criterion='l1'") > 0


def test_a_criterion_that_the_teacher_cannot_serve_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(OWN)
    conv, out = torch.nn.Conv2d(1, 6, 3), torch.nn.Linear(6, 10)
    state = {
        f"{part}.{name}": value
        for part, module in (("conv", conv), ("out", out))
        for name, value in module.state_dict().items()
    }
    torch.save(state, tmp_path / "net.pt")
    for criterion in ("l1", "taylor", "uniform"):
        assert drawn(tmp_path, f"pruning_ratio=0.5, pruning_criterion='{criterion}'", OWN_TEACHER) > 0
    with pytest.raises(RequestError, match=r"'bn_scale' needs batch .* the group of layer conv has none"):
        drawn(tmp_path, "pruning_ratio=0.5, pruning_criterion='bn_scale'", OWN_TEACHER)


def test_a_penalty_on_scales_is_taken_where_there_are_scales(tmp_path: Path) -> None:
    path = write_study(tmp_path, ("epochs = 2\n", "epochs = 2\nbn_sparsity = 0.01\n"))
    assert gather(read_study(path)).spec.teacher.bn_sparsity == 0.01


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("pruning_ratio=1.2", "0 <= pruning_ratio < 1 must hold, but got pruning_ratio=1.2"),
        (
            "head_ratio=0.5",
            "head_ratio needs a family with attention (vit, encoder), but got head_ratio=0.5 for family 'resnet'",
        ),
        (
            "width_multiplier=0.9, round_to=1, zero_pattern='two_four', zero_fraction=0.5",
            "zero_pattern='two_four' needs inputs in fours, but layer stages.0.0.main.0.conv has 7",
        ),
    ],
    ids=["ratio", "heads", "fours"],
)
def test_what_cannot_be_cut_so_is_refused_before_training(tmp_path: Path, choice: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        drawn(tmp_path, choice)
    assert "space" in str(caught.value) and message in str(caught.value) and "\n" not in str(caught.value)


def test_a_shallow_student_is_sized_before_there_is_a_teacher(tmp_path: Path) -> None:
    deep = ("widths = [8, 16, 16]\n", "widths = [8, 16, 16]\ndepths = [2, 2, 1]\n")
    choice = "pruning_ratio=0.5, kept_blocks='last', pruning_criterion='l1', round_to=1"
    assert drawn(tmp_path, choice, deep) > 0
