"""Students that begin as their teacher and are cut in steps while its layers hold them near (HomoDistil's way)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bert_folders import INNER, WIDTH
from inherited_contexts import ALL, bert_context
from nas_compress.config.schema import TrainingSection
from nas_compress.errors import RequestError
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.pretrained.gradual import GradualCuts, units_after
from nas_compress.trial.run import run_trial
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.trial.train_student import find_supervision, objective_of
from nas_compress.values.candidate import Candidate, LossTerm, Shape, Teaching, cross_entropy

GRADUAL = replace(
    ALL,
    pruning_ratio=0.5,
    pruning_criterion="l1",
    pruning_ranking="local",
    head_ratio=0.34,
    pruning_rounds=2,
    losses=(LossTerm(name="task_loss"), LossTerm(name="hidden_state")),
)
"""Half of the channels and two of three heads are left."""


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    context = bert_context(tmp_path_factory.mktemp("gradual"))
    return replace(context, training=TrainingSection(epochs=3, batch_size=16, learning_rate=1e-3))


def cuts_of(candidate: Candidate, context: TrialContext) -> GradualCuts:
    student = new_student(candidate, student_architecture(candidate, context, seed=0), context.teacher, seed=0)
    return GradualCuts(candidate=candidate, student=student, teacher=context.teacher, seed=0)


def test_the_number_of_units_falls_by_the_cubic_law() -> None:
    assert [units_after(12, 6, cut, 3) for cut in range(4)] == [12, 8, 6, 6]
    assert [units_after(3, 3, cut, 2) for cut in range(3)] == [3, 3, 3]


def test_the_teacher_stays_on_its_device(context: TrialContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its network begins the cuts, and answers batches on the training device afterwards."""
    moved: list[object] = []
    move = torch.nn.Module._apply
    monkeypatch.setattr(torch.nn.Module, "_apply", lambda self, *rest: moved.append(self) or move(self, *rest))
    cuts = cuts_of(GRADUAL, context)
    assert cuts.network is context.teacher.network
    cuts.cut(1)
    assert context.teacher.network not in moved


def test_each_cut_narrows_the_same_channels_of_the_stream(context: TrialContext) -> None:
    cuts = cuts_of(GRADUAL, context)
    table = context.teacher.network.embedding.table.weight
    for number in (1, 2):
        network = cuts.cut(number)
        assert torch.equal(network.embedding.table.weight, table[:, cuts.stream])
        assert len(network.layers[0].mlp.inner.weight) == units_after(INNER, INNER // 2, number, 2)
    assert len(cuts.stream) == WIDTH // 2
    cuts.finish_()
    assert torch.equal(cuts.student.layers[1].mlp.outer.weight, network.layers[1].mlp.outer.weight)


def test_projections_begin_as_the_channels_that_are_left(context: TrialContext) -> None:
    cuts = cuts_of(GRADUAL, context)
    network = cuts.cut(1)
    objective = objective_of(GRADUAL, network, find_supervision(GRADUAL, context), context, seed=0)
    cuts.select_(objective)
    (loss,) = objective.learners[0].adapters.values()
    for projection in loss.projections:
        assert torch.equal(projection.weight, torch.eye(WIDTH)[:, cuts.stream])


def test_it_trains_ships_and_resumes_to_the_same_bits(context: TrialContext, tmp_path: Path) -> None:
    whole, again, checkpoint = (tmp_path / name for name in ("whole.onnx", "again.onnx", "checkpoint"))
    candidate = replace(GRADUAL, weight_bits=8)
    outcome = run_trial(candidate, context, seed=0, model=whole)
    assert outcome.state == "trained", outcome.reason
    assert outcome.architecture is not None and outcome.architecture.channels("layers.0.attention.output") == 6
    assert [epoch for epoch, _ in outcome.curve] == [3] and outcome.losses["hidden_state"] > 0

    def killed(done: int, planned: int) -> None:
        assert planned == 3
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(candidate, context, seed=0, model=again, on_epoch=killed, checkpoint=checkpoint)
    run_trial(candidate, context, seed=0, model=again, checkpoint=checkpoint)
    assert again.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init": "scratch", "heads": 3}, "needs init='inherit', but got init='scratch'"),
        ({"pruning_ratio": 0.0, "head_ratio": 0.0}, "needs pruning_ratio or head_ratio above 0, but got neither"),
        ({"losses": cross_entropy()}, "needs a loss on the teacher's features, such as hidden_state, but got none"),
        ({"teaching": Teaching(teacher="assistant")}, "needs teacher='fixed', but got teacher='assistant'"),
        ({"teaching": Teaching(annealing=True)}, "needs losses without begin, end, annealing and soft_stop"),
        ({"pruning_rounds": 3}, "needs training.epochs > 3, an epoch after each cut and one more, but got 3"),
        (
            {"shape": Shape(family="text_bag", depths=(1,)), "head_ratio": 0.0, "init": "scratch"},
            "needs a family of encoder layers (vit, encoder), but got text_bag",
        ),
    ],
)
def test_impossible_gradual_cuts_are_refused(change: dict[str, object], message: str, context: TrialContext) -> None:
    with pytest.raises(RequestError) as caught:
        given = dict(change)
        if given.pop("settings", ALL) is None:
            given |= {
                "head_ratio": 0.0,
                "init": "scratch",
                "settings": Candidate(family="text_bag", depths=(1,)).shape.settings,
            }
        candidate_rules(context, seed=0).require(replace(GRADUAL, **given))  # type: ignore[arg-type]
    assert message in str(caught.value) and "\n" not in str(caught.value)
