"""Feature losses with a user's teacher and with students cut from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nas_compress.config.teacher_section import TeacherSection
from nas_compress.models.features import watch
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.train_student import find_supervision, objective_of
from nas_compress.values.candidate import PRUNED, Candidate, LossTerm, Teaching, cross_entropy
from teachers import small_teacher_in

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.layer1 = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(inplace=True))
        self.layer2 = nn.Sequential(nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.ReLU())
        self.out = nn.Linear(24, 10)

    def forward(self, samples):
        return self.out(self.layer2(self.layer1(self.stem(samples / 16))).mean((2, 3)))

def build():
    torch.manual_seed(0)
    return Net()
"""
TERMS = ("fitnet", "attention_transfer", "rkd_distance", "similarity_preserving")
STUDENTS = {
    "resnet": Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5),
    "pruned": Candidate(family=PRUNED, depths=(), pruning_ratio=0.5, pruning_criterion="l1", round_to=4),
}


@pytest.fixture(scope="module")
def own(context: TrialContext, tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    """The context with a user's module as its teacher."""
    folder = tmp_path_factory.mktemp("own_features")
    (folder / "featured_net.py").write_text(CODE)
    scope: dict[str, object] = {}
    exec(CODE, scope)
    save_file(scope["build"]().state_dict(), folder / "net.safetensors")  # type: ignore[operator]
    section = TeacherSection(
        factory="featured_net:build", weights="net.safetensors", features=("stem", "layer1", "layer2")
    )
    return replace(context, teacher=small_teacher_in(folder, section, context.dataset))


CLASSIFIERS = [name for name in TERMS if name != "teacher_targets"]


@pytest.mark.parametrize("teaching", [Teaching(), Teaching(teacher="mutual", peers=1)], ids=["fixed", "mutual"])
@pytest.mark.parametrize("student", STUDENTS)
def test_named_modules_are_stages_of_teacher_and_student(
    student: str, teaching: Teaching, own: TrialContext, tmp_path: Path
) -> None:
    losses = (*cross_entropy(), *(LossTerm(name=name) for name in CLASSIFIERS))
    candidate = replace(STUDENTS[student], losses=losses, teaching=teaching)
    outcome = run_trial(candidate, own, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    assert {name for name, value in outcome.losses.items() if value > 0} >= set(CLASSIFIERS)


def test_no_module_is_watched_for_longer_than_a_look(own: TrialContext) -> None:
    candidate = replace(STUDENTS["pruned"], losses=(*cross_entropy(), LossTerm(name="fitnet")))
    objective = objective_of(candidate, own.teacher.network, find_supervision(candidate, own), own, seed=0)
    batch = own.dataset.train.first(8)
    objective(own.teacher.network, batch.inputs, batch.targets, view=0, index=torch.arange(8), progress=0.0)
    assert not any(module._forward_hooks for module in own.teacher.network.modules())


def test_what_is_watched_is_what_the_module_gave(own: TrialContext) -> None:
    network, batch = own.teacher.network, own.dataset.train.first(4).inputs
    seen = watch(network, batch, ("layer2", "stem"), outputs=["logits"])
    assert list(seen.features) == ["stem", "layer2"]
    stem, first, second = (network.get_submodule(name) for name in ("stem", "layer1", "layer2"))
    assert isinstance(stem, nn.Conv2d)
    torch.testing.assert_close(seen.features["layer2"], second(first(stem(batch["input"] / 16))))
    torch.testing.assert_close(seen.outputs["logits"], network(batch["input"]))
