"""Which student can be taught by whom, found before anything is trained."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_compress.config.search_space import fixed_space
from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError
from nas_compress.losses.table import TERMS
from nas_compress.search.preflight.feasibility import draw_candidates
from nas_compress.search.setup import StudyParts, gather
from nas_compress.values.candidate import Candidate, LossTerm, Teaching
from running import write_study

DEPTHS = {"resnet": (1, 1, 1), "mobilenet": (1, 1, 1), "vit": (2,)}
NEEDS = {"maps": {"resnet"}, "tokens": {"vit"}, "relations": {"vit"}}
"""Families that have what a term needs; all others have what the other terms need."""


@pytest.fixture(autouse=True)
def one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_compress.search.preflight.feasibility.DRAWS", 1)  # the spaces here have one point


@functools.cache
def study_parts(teacher: str, change: tuple[str, str] = ("", "")) -> StudyParts:
    section = "widths = [8, 16, 16]" if teacher == "resnet" else 'family = "vit"\nwidths = [16]'
    with tempfile.TemporaryDirectory() as folder:
        return gather(read_study(write_study(Path(folder), ("widths = [8, 16, 16]", section), change)))


def check(candidate: Candidate, parts: StudyParts) -> None:
    """What `check` and `run` do first, for a space of this one candidate."""
    draw_candidates(replace(parts, space=fixed_space(candidate)))


def taught(*names: str, family: str = "resnet", teaching: Teaching | None = None, **settings: float) -> Candidate:
    terms = [LossTerm(name=name, settings=settings) for name in names]
    losses = (LossTerm(name="cross_entropy"), *(term for term in terms if term.name != "cross_entropy"))
    return Candidate(
        family=family,
        depths=DEPTHS[family],
        width_multiplier=0.5 if family != "vit" else 0.25,
        losses=losses,
        teaching=teaching or Teaching(),
    )


@pytest.mark.parametrize("who", ["teacher", "peer"])
@pytest.mark.parametrize(("student", "other"), [("resnet", "vit"), ("vit", "resnet"), ("vit", "vit")])
def test_every_term_crosses_families_or_says_what_it_needs(student: str, other: str, who: str) -> None:
    teaching = Teaching(teacher="mutual", peer_family=other) if who == "peer" else None
    needs = {name: NEEDS.get(term.needs, {student, other}) for name, term in TERMS.items() if term.needs_teacher}
    del needs["teacher_targets"]  # of regressions
    able = [name for name, families in needs.items() if {student, other} <= families]
    assert len(able) >= 8
    check(taught(*able, family=student, teaching=teaching), study_parts(other))
    for name in needs.keys() - set(able):
        with pytest.raises(RequestError, match=rf"space fixed: loss '{name}' needs a (student|teacher) with .*, as "):
            check(taught(name, family=student, teaching=teaching), study_parts(other))


@pytest.mark.parametrize(
    ("candidate", "change", "message"),
    [
        (
            taught("rkd_distance"),
            ("batch_size = 32", "batch_size = 2"),
            "batch_size >= 3 must hold for .*'rkd_distance'",
        ),
        (taught("rkd_angle"), ("batch_size = 32", "batch_size = 2"), "batch_size >= 3 must hold for loss 'rkd_angle'"),
        (
            taught("kd", teaching=Teaching(teacher="mutual", peer_family="mobilnet")),
            ("", ""),
            r"peer_family must be a known name, .* 'mobilnet'; did you mean 'mobilenet'\?",
        ),
        (
            taught("kd", teaching=Teaching(teacher="mutual", peer_family="vit", peer_depths=(1, 1))),
            ("", ""),
            r"a peer in mutual learning: depths must have one entry per stage of vit \(1\), but got depths=\(1, 1\)",
        ),
        (
            taught("kd", teaching=Teaching(teacher="mutual", peer_family="pruned", peer_width=3.0)),
            ("", ""),
            "a peer in mutual learning: family 'pruned' can only cut",
        ),
    ],
    ids=["one sample", "two samples", "peer family", "peer depths", "peer width"],
)
def test_what_cannot_be_taught_is_refused(candidate: Candidate, change: tuple[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        check(candidate, study_parts("resnet", change))
    assert "\n" not in str(caught.value)


def own(folder: Path, features: str) -> StudyParts:
    (folder / "study").mkdir(exist_ok=True)
    (folder / "study" / "shown_net.py").write_text(NET)
    scope: dict[str, Any] = {}
    exec(NET, scope)
    torch.save(scope["build"]().state_dict(), folder / "study" / "net.pt")
    section = f'factory = "shown_net:build"\nweights = "net.pt"\n{features}\n'
    return gather(read_study(write_study(folder / "study", (FAMILY_SECTION, section))))


FAMILY_SECTION = "widths = [8, 16, 16]\nepochs = 2\nlearning_rate = 0.01\n"
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1, self.layer2, self.out = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3), nn.Linear(16, 10)

    def forward(self, samples):
        return self.out(self.layer2(self.layer1(samples.float()).relu()).relu().mean((2, 3)))

def build():
    return Net()
"""


@pytest.mark.parametrize("student", ["resnet", "pruned", "vit"])
def test_a_module_of_ones_own_teaches_what_it_shows(student: str, tmp_path: Path) -> None:
    candidates = {
        name: replace(
            taught(name),
            family=student,
            depths=DEPTHS.get(student, ()),
            teaching=Teaching(teacher="assistant") if student == "resnet" and name == "rkd_angle" else Teaching(),
        )
        for name in ("rkd_distance", "rkd_angle", "attention_transfer", "hidden_state")
    }
    bare, shown = own(tmp_path, ""), own(tmp_path, 'features = ["layer1", "layer2"]')
    check(candidates["rkd_distance"], shown)
    with pytest.raises(RequestError, match=r"logits only; teacher.features names modules of a teacher of your own"):
        check(candidates["rkd_distance"], bare)
    with pytest.raises(RequestError, match=r"'hidden_state' needs a (student|teacher) with tokens"):
        check(candidates["hidden_state"], shown)
    if student == "vit":
        with pytest.raises(RequestError, match="'attention_transfer' needs a student with feature maps"):
            check(candidates["attention_transfer"], shown)
    else:
        check(candidates["attention_transfer"], shown)
        check(candidates["rkd_angle"], bare if student == "resnet" else shown)  # an assistant is of a family of ours


def test_features_of_a_family_are_its_own() -> None:
    with pytest.raises(RequestError, match=r"teacher: features need a teacher.factory.* features=\['stage0'\]"):
        study_parts("resnet", ("[teacher]", '[teacher]\nfeatures = ["stage0"]'))
