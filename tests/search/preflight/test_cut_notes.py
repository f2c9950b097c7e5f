"""What `check` and `run` say about layers that stay whole and ratios without effect."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError
from nas_compress.search.preflight.cut_notes import cut_notes
from nas_compress.search.preflight.feasibility import draw_candidates
from nas_compress.search.setup import gather
from running import write_study

NET = '''
import torch
from torch import nn


class Net(nn.Module):
    """A layer whose channels are paired in fixed places, and two plain ones."""

    def __init__(self):
        super().__init__()
        self.pairs, self.first = nn.Conv2d(1, 32, 3), nn.Conv2d(16, 16, 3)
        self.second, self.head = nn.Linear(16, 24), nn.Linear(24, 10)

    def forward(self, samples):
        values = nn.functional.glu(self.pairs(samples.float() / 16), 1)
        return self.head(torch.relu(self.second(torch.relu(self.first(values)).mean((2, 3)))))
'''
SPACE = '''"""Two ratios."""
from nas_compress import Candidate


def suggest(trial):
    """Propose a cut."""
    ratio = trial.suggest_categorical("pruning_ratio", [0.25, 0.5])
    return Candidate(family="pruned", depths=(), pruning_ratio=ratio, pruning_criterion="l1",
                     pruning_ranking="local", round_to=ROUND_TO)
'''


def notes(folder: Path, *, round_to: int, keep: str = "") -> list[str]:
    (folder / "my_net.py").write_text(NET)
    names: dict[str, object] = {}
    exec(NET, names)
    torch.save(names["Net"]().state_dict(), folder / "net.pt")  # type: ignore[operator]
    teacher = 'factory = "my_net:Net"\nweights = "net.pt"\n'
    path = write_study(folder, ("widths = [8, 16, 16]\n", teacher), space=SPACE.replace("ROUND_TO", str(round_to)))
    path.write_text(path.read_text() + keep)
    parts = gather(read_study(path.parent))
    sized, _ = draw_candidates(parts)
    return cut_notes(parts, sized)


def test_layers_that_stay_whole_are_named_with_their_reason(tmp_path: Path) -> None:
    (line,) = notes(tmp_path, round_to=4)
    assert line.startswith("these layers stay whole in every candidate: pairs (RuntimeError: Given groups=1, weight of")


def test_ratios_that_remove_nothing_are_named(tmp_path: Path) -> None:
    named, idle = notes(tmp_path, round_to=16, keep='\n[pruning]\nkeep = ["second"]\n')
    assert named.endswith("; second (pruning.keep)")
    assert idle.startswith("pruning_ratio 0.25, 0.5 removes nothing in 2 of 2 draws, which then equal candidates of")
    assert idle.endswith("widths are rounded to multiples of 16; use a smaller round_to or a larger ratio")


def test_a_pattern_without_a_module_is_refused_before_the_study(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"a pattern must match a module of the network, but got 'heads' \(study\.toml"
    ):
        notes(tmp_path, round_to=4, keep='\n[pruning]\nkeep = ["heads"]\n')


def test_kept_layers_need_the_users_own_network(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    path.write_text(path.read_text() + '\n[pruning]\nkeep = ["stem"]\n')
    with pytest.raises(RequestError, match=r"pruning\.keep needs a teacher.factory"):
        read_study(path)
