"""Weights of terms over a training, by hand."""

import pytest
import torch

from nas_compress.errors import RequestError
from nas_compress.losses.training_loss import TrainingLoss, one_answer
from nas_compress.models.features import Observation
from nas_compress.tasks.classification import Classification
from nas_compress.values.candidate import LossTerm, distillation

TAUGHT = distillation(hard_weight=2.0, soft_weight=4.0, temperature=1.0)
TASK = Classification.of_images(shape=(1, 8, 8), classes=3)
MAPS = Observation(
    outputs=torch.zeros(2, 3), features={"stem": torch.zeros(2, 4, 2, 2), "stage0": torch.zeros(2, 4, 2, 2)}
)


def shown(logits: torch.Tensor) -> Observation:
    return Observation(outputs={"logits": logits})


def test_nothing_changes_unless_asked() -> None:
    loss = TrainingLoss(TASK, TAUGHT)
    assert loss.active(0.0) == loss.active(0.99) == {"cross_entropy": 2.0, "kd": 4.0}


def test_annealing_goes_from_the_teacher_to_the_labels() -> None:
    loss = TrainingLoss(TASK, TAUGHT, annealing=True)
    assert loss.active(0.0) == {"kd": 4.0}
    assert loss.active(0.25) == {"cross_entropy": 0.5, "kd": 3.0}
    assert loss.active(1.0) == {"cross_entropy": 2.0}


def test_after_the_soft_stop_only_labels_speak() -> None:
    loss = TrainingLoss(TASK, TAUGHT, soft_stop=0.5)
    assert loss.active(0.49) == {"cross_entropy": 2.0, "kd": 4.0}
    assert loss.active(0.5) == {"cross_entropy": 2.0}


def test_a_term_that_is_silent_counts_as_zero_and_sends_no_gradient() -> None:
    loss = TrainingLoss(TASK, TAUGHT, soft_stop=0.5)
    student = torch.randn(2, 3, requires_grad=True)
    terms = loss(shown(student), {"label": torch.tensor([0, 1])}, answers=torch.randn(2, 3), progress=0.7)
    assert float(terms["kd"]) == 0 and not terms["kd"].requires_grad and float(terms["cross_entropy"].detach()) > 0


def test_after_the_soft_stop_no_teacher_is_needed() -> None:
    loss = TrainingLoss(TASK, TAUGHT, soft_stop=0.5)
    student, targets = shown(torch.zeros(2, 3)), {"label": torch.tensor([0, 1])}
    with pytest.raises(RequestError, match="kd needs a teacher's answers or features, but got none"):
        loss(student, targets, progress=0.49)
    assert set(loss(student, targets, progress=0.5)) == {"cross_entropy", "kd"}


def staged(*terms: tuple[str, dict[str, float]], **schedule: float) -> TrainingLoss:
    return TrainingLoss(TASK, [LossTerm(name=name, settings=settings) for name, settings in terms], **schedule)


def test_terms_take_turns_at_fractions_of_the_steps() -> None:
    loss = staged(("kd", {"end": 0.6}), ("cross_entropy", {"begin": 0.6}), ("label_smoothing", {}))
    assert set(loss.active(0.0)) == set(loss.active(0.59)) == {"kd", "label_smoothing"}
    assert set(loss.active(0.6)) == set(loss.active(0.99)) == {"cross_entropy", "label_smoothing"}


@pytest.mark.parametrize(
    ("terms", "schedule", "message"),
    [
        ([("kd", {"end": 0.5})], {}, "trained at every step, but none is after 0.5 of the steps"),
        ([("kd", {"end": 0.5}), ("cross_entropy", {"begin": 0.6})], {}, "none is after 0.5"),
        ([("kd", {"begin": 0.5}), ("cross_entropy", {"end": 0.6})], {"soft_stop": 0.9}, "none is after 0.9"),
        (
            [("kd", {"begin": 0.5}), ("cross_entropy", {})],
            {"annealing": True},
            "need no other schedule, but got anneal",
        ),
        ([("kd", {"begin": 0.5, "end": 0.5})], {}, r"0 <= begin < end <= 1 must hold for loss 'kd', but got begin=0.5"),
        ([("kd", {"ende": 0.5})], {}, "has no setting 'ende'; did you mean 'end'"),
    ],
)
def test_stages_with_steps_of_no_term_are_refused(
    terms: list[tuple[str, dict[str, float]]], schedule: dict[str, float], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        staged(*terms, **schedule)


def test_warm_up_is_linear_and_never_zero() -> None:
    loss = TrainingLoss(TASK, [LossTerm(name="dkd", settings={"warm_up": 0.2})])
    assert 0 < loss.active(0.0)["dkd"] < 0.01
    assert loss.active(0.1)["dkd"] == pytest.approx(0.5)
    assert loss.active(0.6) == {"dkd": 1.0}


def test_hints_alone_come_first_in_two_stages() -> None:
    terms = (LossTerm(name="fitnet", weight=9.0, settings={"hint_share": 0.25}), *TAUGHT)
    loss = TrainingLoss(TASK, terms, student=MAPS, teacher=MAPS)
    assert loss.active(0.2) == {"fitnet": 9.0} and loss.reads_features(0.2)
    assert loss.active(0.25) == {"cross_entropy": 2.0, "kd": 4.0} and not loss.reads_features(0.25)


@pytest.mark.parametrize(
    ("terms", "settings", "message"),
    [
        (distillation(hard_weight=0, soft_weight=1, temperature=1), {"annealing": True}, "annealing needs a term on"),
        (distillation(hard_weight=1, soft_weight=0, temperature=1), {"annealing": True}, "annealing needs a term on"),
        (distillation(hard_weight=0, soft_weight=1, temperature=1), {"soft_stop": 0.5}, "soft_stop=0.5 needs a term"),
        ((LossTerm(name="fitnet", settings={"hint_share": 0.5}),), {}, "needs another term after it"),
        (
            (LossTerm(name="fitnet", settings={"hint_share": 0.5}), LossTerm(name="cross_entropy")),
            {"soft_stop": 0.4},
            "hint_share < soft_stop must hold",
        ),
        ((LossTerm(name="attention_matrix"),), {}, "'attention_matrix' needs a student with attention layers"),
        ((LossTerm(name="hidden_state"),), {}, "'hidden_state' needs a student with tokens"),
    ],
)
def test_what_would_leave_nothing_to_learn_is_refused(terms: tuple, settings: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        TrainingLoss(TASK, terms, student=MAPS, teacher=MAPS, **settings)
    assert "\n" not in str(caught.value)


def test_a_teacher_that_shows_logits_alone_teaches_no_features() -> None:
    with pytest.raises(RequestError, match="'fitnet' needs a teacher with feature maps"):
        TrainingLoss(TASK, [LossTerm(name="fitnet")], student=MAPS, teacher=shown(torch.zeros(2, 3)))


def test_an_ensemble_answers_with_the_mean_of_its_probabilities_at_any_temperature() -> None:
    members = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)) * 3
    for temperature in (1.0, 4.0):
        expected = (members / temperature).softmax(dim=2).mean(dim=1)
        found = (one_answer(members, temperature) / temperature).softmax(dim=1)
        torch.testing.assert_close(found, expected)


def test_divergences_to_several_teachers_have_the_gradient_of_the_one_to_their_mean() -> None:
    """Hinton et al. 2015: their mean differs from it by a constant, so mutual learning may average first."""
    random = torch.Generator().manual_seed(0)
    members, labels = torch.randn(6, 3, 5, generator=random), torch.zeros(6, dtype=torch.int64)
    student = torch.randn(6, 5, generator=random, requires_grad=True)
    loss = TrainingLoss(TASK, distillation(hard_weight=0, soft_weight=1, temperature=1.0))

    def gradient(teachers: list[torch.Tensor]) -> torch.Tensor:
        terms = [loss(shown(student), {"label": labels}, answers=each)["kd"] for each in teachers]
        return torch.autograd.grad(torch.stack(terms).mean(), student)[0]

    torch.testing.assert_close(gradient([members]), gradient(list(members.unbind(dim=1))))


def test_two_heads_share_the_work_and_one_kind_of_term_trains_both() -> None:
    targets = {"label": torch.tensor([0, 1])}
    first, second = (torch.randn(2, 3, requires_grad=True) for _ in range(2))
    answers = torch.randn(2, 3)

    def reached(terms: tuple[LossTerm, ...], name: str) -> list[bool]:
        mean = {"logits": (first + second) / 2}
        seen = Observation(outputs=mean, label_head={"logits": first}, teacher_head={"logits": second})
        value = TrainingLoss(TASK, terms)(seen, targets, answers=answers)[name]
        found = torch.autograd.grad(value, [first, second], allow_unused=True)
        return [gradient is not None and bool(gradient.any()) for gradient in found]

    assert reached(TAUGHT, "cross_entropy") == [True, False] and reached(TAUGHT, "kd") == [False, True]
    assert reached((LossTerm(name="cross_entropy"),), "cross_entropy") == [True, True]
    assert reached((LossTerm(name="kd"),), "kd") == [True, True]
