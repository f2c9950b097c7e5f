"""A study whose students are the user's own module, cut."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError
from nas_compress.report.page import report_page
from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.preflight.feasibility import draw_candidates
from nas_compress.search.run import run_study
from nas_compress.search.setup import gather
from processors import skip_if_saturated
from running import quick_and_apart, write_study

NET = '''
import torch
from torch import nn


class Net(nn.Module):
    """A patch embedding with bare position parameters, and a mixing layer."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(1, 24, 2, stride=2), nn.LayerNorm(24)
        self.positions = nn.Parameter(torch.zeros(1, 16, 24))
        self.mix, self.back, self.out = nn.Linear(24, 48), nn.Linear(48, 24), nn.Linear(24, 10)

    def forward(self, samples):
        tokens = self.patches(samples.float() / 16).flatten(2).transpose(1, 2) + self.positions
        tokens = tokens + self.back(torch.relu(self.mix(self.norm(tokens))))
        return self.out(tokens.mean(1))
'''
SPACE = '''"""Ratios of the user's own module."""
from nas_compress.values.candidate import Candidate


def suggest(trial):
    """Propose a cut."""
    ratio = trial.suggest_categorical("pruning_ratio", [0.0, 0.25, 0.5])
    bits = trial.suggest_categorical("weight_bits", [32, 8])
    init = trial.suggest_categorical("init", ["scratch", "inherit"])
    return Candidate(family="pruned", depths=(), pruning_ratio=ratio, pruning_criterion="l1", weight_bits=bits,
                     activation_bits=ACTIVATION_BITS, round_to=4, init=init)
'''


def written(folder: Path, activation_bits: int = 32) -> Path:
    (folder / "my_net.py").write_text(NET)
    names: dict[str, object] = {}
    exec(NET, names)
    torch.manual_seed(0)
    torch.save(names["Net"]().state_dict(), folder / "net.pt")  # type: ignore[operator]
    space = SPACE.replace("ACTIVATION_BITS", str(activation_bits))
    if activation_bits == 8:
        space = space.replace("[32, 8]", "[8]")
    return write_study(
        folder,
        ("widths = [8, 16, 16]\n", 'factory = "my_net:Net"\nweights = "net.pt"\n'),
        space=space,
    )


def test_a_study_cuts_the_users_module_to_a_front(tmp_path: Path) -> None:
    with quick_and_apart():
        front = run_study(written(tmp_path), out=tmp_path / "run", trials=6)
    assert front.members
    outcomes = [record.outcome for record in read_records(RunFolder(root=tmp_path / "run"))]
    assert [outcome.state for outcome in outcomes] == ["trained"] * 6
    for outcome in outcomes:
        assert outcome.measured is not None and (outcome.measured.agreement or 0) >= 0.999
        assert ("inherited weights" in outcome.control) == (outcome.candidate.pruning.init == "inherit")
    sizes = sorted(
        (one.candidate.pruning.ratio, one.measured.figures["parameters"]) for one in outcomes if one.measured
    )
    assert len({ratio for ratio, _ in sizes}) > 1
    assert all(first[1] >= second[1] for first, second in itertools.pairwise(sizes))


@pytest.mark.parametrize(("factorization", "fraction"), [("none", 1.0), ("low_rank", 0.5)])
def test_a_cut_module_has_integer_kernels(factorization: str, fraction: float, tmp_path: Path) -> None:
    study = written(tmp_path, activation_bits=8)
    space = tmp_path / "space.py"
    space.write_text(
        space.read_text().replace(
            "Candidate(", f'Candidate(factorization="{factorization}", rank_fraction={fraction}, '
        )
    )
    with quick_and_apart():
        run_study(study, out=tmp_path / "run", trials=1)
    (record,) = read_records(RunFolder(root=tmp_path / "run"))
    skip_if_saturated(record.outcome)
    assert record.outcome.state == "trained", record.outcome.reason
    measured = record.outcome.measured
    assert measured is not None and measured.float32_fraction == 0


def test_a_module_that_cannot_be_traced_is_refused_before_training(tmp_path: Path) -> None:
    study = written(tmp_path, activation_bits=8)
    text = (tmp_path / "my_net.py").read_text()
    (tmp_path / "my_net.py").write_text(
        text.replace("        tokens = self.patches", DECIDES + "        tokens = self.patches")
    )
    with pytest.raises(
        RequestError, match="needs a network that can be traced, but got Net: it decides by the numbers"
    ):
        draw_candidates(gather(read_study(study.parent)))


def test_layers_left_whole_are_named_in_record_report_and_bundle(tmp_path: Path) -> None:
    study = written(tmp_path)
    text = (study.parent / "study.toml").read_text()
    (study.parent / "study.toml").write_text(f'{text}[pruning]\nkeep = ["mix"]\n')
    with quick_and_apart():
        run_study(study, out=tmp_path / "run", trials=1)
    folder = RunFolder(root=tmp_path / "run")
    (record,) = read_records(folder)
    assert record.outcome.whole_layers == ("mix (pruning.keep)",)
    export_bundle(folder, 0, tmp_path / "bundle")
    assert "Layers with all their channels: `mix (pruning.keep)`." in (tmp_path / "bundle" / "README.md").read_text()
    assert "Layers with all their channels:</b> mix (pruning.keep).</p>" in report_page(folder)


DECIDES = """        if samples.max() > 300:
            samples = samples / 2
"""
