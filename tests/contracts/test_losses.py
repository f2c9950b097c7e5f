"""One suite that every term on logits passes, and faults that it must catch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.losses.logits import permuted
from nas_compress.losses.table import TERMS
from nas_compress.losses.term_kinds import LogitLoss, LogitTerm

Bind = Callable[[Mapping[str, float]], LogitLoss]

LOGIT_TERMS = {name: term for name, term in TERMS.items() if isinstance(term, LogitTerm)}
RANDOM = {"permuted_kd"}
"""Another draw gives another value."""

NOT_LEAST_AT_EQUALITY = {"hard_label", "permuted_kd"}
"""Their target is not the teacher's own distribution."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Logits that give round probabilities, and the loss worked out by hand."""

    student: list[list[float]]
    labels: list[int]
    teacher: list[list[float]]
    expected: float
    settings: dict[str, float]


# Two classes; logits (ln 3, 0) are the probabilities (3/4, 1/4). No case is symmetric in student and teacher.
HAND = {
    "cross_entropy": Case(
        student=[[math.log(3), 0.0], [0.0, math.log(7)]],
        labels=[1, 1],
        teacher=[[0.0, 0.0], [0.0, 0.0]],
        expected=(math.log(4) + math.log(8 / 7)) / 2,
        settings={},
    ),
    "label_smoothing": Case(
        student=[[math.log(3), 0.0]],
        labels=[0],
        teacher=[[0.0, 0.0]],
        expected=0.9 * math.log(4 / 3) + 0.1 * math.log(4),
        settings={"smoothing": 0.2},
    ),
    "kd": Case(
        student=[[0.0, 0.0], [2 * math.log(3), 0.0]],
        labels=[0, 0],
        teacher=[[2 * math.log(3), 0.0], [0.0, 2 * math.log(3)]],
        # 4 (0.75 ln 1.5 + 0.25 ln 0.5) and 4 (0.25 ln (1/3) + 0.75 ln 3), of which the mean
        expected=2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5) + 0.5 * math.log(3)),
        settings={"temperature": 2.0},
    ),
    # with two classes there is nothing to shuffle
    "permuted_kd": Case(
        student=[[0.0, 0.0]],
        labels=[0],
        teacher=[[2 * math.log(3), 0.0]],
        expected=4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)),
        settings={"temperature": 2.0},
    ),
    # 0.9 : 0.1 softened by 2 is 3 : 1
    "teacher_free": Case(
        student=[[0.0, 0.0]],
        labels=[0],
        teacher=[[5.0, 0.0]],
        expected=4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)),
        settings={"confidence": 0.9, "temperature": 2.0},
    ),
    "hard_label": Case(
        student=[[math.log(3), 0.0]],
        labels=[0],
        teacher=[[0.0, 0.1]],
        expected=math.log(4),
        settings={},
    ),
    "label_refinery": Case(
        student=[[math.log(3), 0.0]],
        labels=[0],
        teacher=[[0.0, math.log(3)]],
        expected=0.25 * math.log(4 / 3) + 0.75 * math.log(4),
        settings={},
    ),
    # teacher 1/2, 1/4, 1/4 and student 1/5, 3/5, 1/5, once softened; the rest is 1/2, 1/2 and 3/4, 1/4
    "dkd": Case(
        student=[[0.0, 2 * math.log(3), 0.0]],
        labels=[0],
        teacher=[[2 * math.log(2), 0.0, 0.0]],
        expected=4
        * (3 * (0.5 * math.log(2.5) + 0.5 * math.log(0.625)) + 2 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2))),
        settings={"temperature": 2.0, "alpha": 3.0, "beta": 2.0},
    ),
    # the first class has 3/4, 1/4, 1/2 of the student and 3/4, 1/2, 1/4 of the teacher; constant rows correlate by 0
    "dist": Case(
        student=[[2 * math.log(3), 0.0], [0.0, 2 * math.log(3)], [0.0, 0.0]],
        labels=[0, 0, 0],
        teacher=[[2 * math.log(3), 0.0], [0.0, 0.0], [0.0, 2 * math.log(3)]],
        expected=4 * (3 * (1 - 1 / 3) + 5 * (1 - 1 / 2)),
        settings={"temperature": 2.0, "beta": 3.0, "gamma": 5.0},
    ),
}


def values(seed: int = 0, batch: int = 8, classes: int = 5, scale: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    student = torch.randn(batch, classes, generator=random) * scale
    teacher = torch.randn(batch, classes, generator=random) * scale
    return student, torch.randint(classes, (batch,), generator=random), teacher


def check_by_hand(bind: Bind, name: str) -> None:
    case = HAND[name]
    given = torch.tensor(case.student), torch.tensor(case.labels), torch.tensor(case.teacher)
    assert float(bind(case.settings)(*given)) == pytest.approx(case.expected, rel=1e-5)


def check_doubled_batch(bind: Bind, name: str) -> None:
    if name in RANDOM:
        return
    student, labels, teacher = values()
    function = bind(HAND[name].settings)
    once = function(student, labels, teacher)
    twice = function(student.repeat(2, 1), labels.repeat(2), teacher.repeat(2, 1))
    torch.testing.assert_close(once, twice)


def check_orders(bind: Bind, name: str) -> None:
    if name in RANDOM:
        return
    student, labels, teacher = values()
    function = bind(HAND[name].settings)
    expected = function(student, labels, teacher)
    batch, classes = torch.randperm(8), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(function(student[batch], labels[batch], teacher[batch]), expected)
    renamed = classes.argsort()[labels]
    torch.testing.assert_close(function(student[:, classes], renamed, teacher[:, classes]), expected)


def check_gradients(bind: Bind, name: str) -> None:
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        for scale in (1.0, 100.0):
            student, labels, teacher = values(scale=scale)
            student, teacher = student.to(kind).requires_grad_(), teacher.to(kind).requires_grad_()
            loss = bind(HAND[name].settings)(student, labels, teacher)
            assert loss.dtype == torch.float32 and loss.shape == () and bool(torch.isfinite(loss))
            loss.backward()
            assert student.grad is not None and bool(torch.isfinite(student.grad).all()) and bool(student.grad.any())
            assert teacher.grad is None
            if name not in RANDOM and kind != torch.float16:  # which autocast does not know on a CPU
                with torch.autocast("cpu", torch.bfloat16):
                    rounded = bind(HAND[name].settings)(student, labels, teacher)
                torch.testing.assert_close(rounded, loss, rtol=1e-5, atol=1e-5)  # nothing is rounded again


def check_large_temperature(bind: Bind, name: str) -> None:
    """`T^2 KL` tends to `||centred difference||^2 / (2 C)` (Hinton et al. 2015, section 2.1)."""
    if name != "kd":
        return
    student, labels, teacher = values(scale=0.4)
    difference = student - teacher
    centred = difference - difference.mean(dim=1, keepdim=True)
    expected = centred.pow(2).sum(dim=1).mean() / (2 * student.shape[1])
    found = bind({**HAND[name].settings, "temperature": 20.0})(student, labels, teacher)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)


def check_minimum(bind: Bind, name: str) -> None:
    """Terms with a teacher are least, and flat, where the student answers like it."""
    if not LOGIT_TERMS[name].needs_teacher or name in NOT_LEAST_AT_EQUALITY:
        return
    other, labels, teacher = values()
    student = teacher.clone().requires_grad_()
    function = bind(HAND[name].settings)
    least = function(student, labels, teacher)
    least.backward()
    assert student.grad is not None and float(student.grad.abs().max()) < 1e-6
    for step in (0.01, 0.1, 1.0):
        assert function(teacher + step * other, labels, teacher) > least.detach() - 1e-7


def check_offset(bind: Bind, name: str) -> None:
    """A constant added to a row of the teacher's logits changes nothing: the stored answers lack it."""
    student, labels, teacher = values()
    teacher, offset = (teacher * 64).round() / 64, torch.tensor([0.0, 5000, -300, 1, 0, 7, 4096, -2]).unsqueeze(1)
    found = []
    for logits in (teacher, teacher + offset):
        torch.manual_seed(0)
        found.append(bind(HAND[name].settings)(student, labels, logits))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


CHECKS = (
    check_by_hand,
    check_doubled_batch,
    check_orders,
    check_gradients,
    check_large_temperature,
    check_minimum,
    check_offset,
)


@pytest.mark.parametrize("name", LOGIT_TERMS)
@pytest.mark.parametrize("check", CHECKS)
def test_every_term_keeps_the_contract(check: Callable[[Bind, str], None], name: str) -> None:
    assert name in HAND, f"{name} needs a hand-worked case"
    check(LOGIT_TERMS[name].bind, name)


def test_the_table_and_the_cases_name_the_same_terms() -> None:
    assert set(HAND) == set(LOGIT_TERMS)


def divergence(first: Tensor, second: Tensor, temperature: float, reduction: str = "batchmean") -> Tensor:
    logs = F.log_softmax(first.float() / temperature, 1), F.log_softmax(second.float() / temperature, 1)
    return F.kl_div(*logs, log_target=True, reduction=reduction)


FAULTS: dict[str, tuple[str, Bind]] = {
    "arguments swapped": ("kd", lambda s: lambda a, y, b: 4 * divergence(b.detach(), a, 2.0)),
    "T squared dropped": ("kd", lambda s: lambda a, y, b: divergence(a, b.detach(), s["temperature"])),
    "mean over classes": (
        "kd",
        lambda s: lambda a, y, b: divergence(a, b.detach(), s["temperature"]) * s["temperature"] ** 2 / a.shape[1],
    ),
    "sum over the batch": (
        "kd",
        lambda s: lambda a, y, b: divergence(a, b.detach(), s["temperature"], "sum") * s["temperature"] ** 2,
    ),
    "teacher learns": ("kd", lambda s: lambda a, y, b: divergence(a, b, s["temperature"]) * s["temperature"] ** 2),
    "half precision": ("cross_entropy", lambda s: lambda a, y, b: F.cross_entropy(a, y)),
    "dkd's target class kept in the rest": (
        "dkd",
        lambda s: lambda a, y, b: divergence(a, b.detach(), s["temperature"]) * s["temperature"] ** 2 * 3,
    ),
    "dist between other pairs": (
        "dist",
        lambda s: lambda a, y, b: LOGIT_TERMS["dist"].bind(s)(a, y, b.roll(1, dims=0)),
    ),
    "hard labels from the student": ("hard_label", lambda s: lambda a, y, b: F.cross_entropy(b.float(), a.argmax(1))),
    "refinery without its entropy": ("label_refinery", lambda s: lambda a, y, b: divergence(a, b.detach(), 1.0)),
    "virtual teacher not softened": (
        "teacher_free",
        lambda s: lambda a, y, b: LOGIT_TERMS["teacher_free"].bind({**s, "confidence": 0.99})(a, y, b),
    ),
    "logits instead of probabilities": ("kd", lambda s: lambda a, y, b: F.mse_loss(a.float(), b.detach().float())),
    "smoothing ignored": ("label_smoothing", lambda s: lambda a, y, b: F.cross_entropy(a.float(), y)),
    "classes weighed": (
        "cross_entropy",
        lambda s: lambda a, y, b: F.cross_entropy(a.float() * torch.linspace(1, 1.1, a.shape[1]), y),
    ),
}


def caught_by(bind: Bind, name: str) -> set[str]:
    found = set()
    for check in CHECKS:
        try:
            check(bind, name)
        except AssertionError:
            found.add(check.__name__)
    return found


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        ("arguments swapped", {"check_by_hand"}),
        ("T squared dropped", {"check_by_hand", "check_large_temperature"}),
        ("mean over classes", {"check_by_hand", "check_large_temperature"}),
        ("sum over the batch", {"check_by_hand", "check_doubled_batch", "check_large_temperature"}),
        ("teacher learns", {"check_gradients"}),
        ("half precision", {"check_gradients"}),
        ("logits instead of probabilities", {"check_by_hand", "check_offset"}),
        ("smoothing ignored", {"check_by_hand"}),
        ("dkd's target class kept in the rest", {"check_by_hand"}),
        ("dist between other pairs", {"check_by_hand", "check_minimum"}),
        ("hard labels from the student", {"check_by_hand", "check_gradients"}),
        ("refinery without its entropy", {"check_by_hand"}),
        ("virtual teacher not softened", {"check_by_hand"}),
        ("classes weighed", {"check_by_hand", "check_orders"}),
    ],
)
def test_a_planted_fault_is_caught(fault: str, checks: set[str]) -> None:
    name, bind = FAULTS[fault]
    assert checks <= caught_by(bind, name)
    assert caught_by(LOGIT_TERMS[name].bind, name) == set()


def test_kd_is_its_two_decoupled_parts() -> None:
    """`KD = TCKD + (1 - p_label) NCKD` for one sample (Zhao et al. 2022, equation 6)."""
    student, labels, teacher = values(batch=1)
    whole = LOGIT_TERMS["kd"].bind({"temperature": 1.0})(student, labels, teacher)
    tiny = 1e-9
    target = LOGIT_TERMS["dkd"].bind({"temperature": 1.0, "alpha": 1.0, "beta": tiny})(student, labels, teacher)
    rest = LOGIT_TERMS["dkd"].bind({"temperature": 1.0, "alpha": tiny, "beta": 1.0})(student, labels, teacher)
    other = 1 - teacher.softmax(dim=1)[0, labels[0]]
    torch.testing.assert_close(whole, target + other * rest)


def test_permuting_keeps_the_largest_and_the_values_and_moves_the_others() -> None:
    logits = values(batch=64, classes=6)[2]
    torch.manual_seed(0)
    mixed = permuted(logits)
    assert torch.equal(mixed.argmax(dim=1), logits.argmax(dim=1))
    assert torch.equal(mixed.sort(dim=1).values, logits.sort(dim=1).values)
    moved = (mixed != logits).float().mean(dim=0)
    assert bool((moved > 0.3).all())  # of 5 others, each stays in place once in five


def test_correlations_do_not_see_scale_and_shift() -> None:
    student, labels, teacher = values()
    function = LOGIT_TERMS["dist"].bind({"temperature": 1.0, "beta": 1.0, "gamma": 1e-9})
    torch.testing.assert_close(function(student + 3, labels, teacher), function(student, labels, teacher - 7))
