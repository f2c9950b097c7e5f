"""One suite that every term of the table passes, and faults that it must catch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.losses.terms import TERMS, TermFunction

Bind = Callable[[Mapping[str, float]], TermFunction]


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
    student, labels, teacher = values()
    function = bind(HAND[name].settings)
    once = function(student, labels, teacher)
    twice = function(student.repeat(2, 1), labels.repeat(2), teacher.repeat(2, 1))
    torch.testing.assert_close(once, twice)


def check_orders(bind: Bind, name: str) -> None:
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


def check_large_temperature(bind: Bind, name: str) -> None:
    """`T^2 KL` tends to `||centred difference||^2 / (2 C)` (Hinton et al. 2015, section 2.1)."""
    if "temperature" not in TERMS[name].settings:
        return
    student, labels, teacher = values(scale=0.4)
    difference = student - teacher
    centred = difference - difference.mean(dim=1, keepdim=True)
    expected = centred.pow(2).sum(dim=1).mean() / (2 * student.shape[1])
    found = bind({**HAND[name].settings, "temperature": 20.0})(student, labels, teacher)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)


def check_minimum(bind: Bind, name: str) -> None:
    """Terms with a teacher are least, and flat, where the student answers like it."""
    if not TERMS[name].needs_teacher:
        return
    other, labels, teacher = values()
    student = teacher.clone().requires_grad_()
    function = bind(HAND[name].settings)
    least = function(student, labels, teacher)
    least.backward()
    assert student.grad is not None and float(student.grad.abs().max()) < 1e-6
    for step in (0.01, 0.1, 1.0):
        assert function(teacher + step * other, labels, teacher) > least.detach() - 1e-7


CHECKS = (check_by_hand, check_doubled_batch, check_orders, check_gradients, check_large_temperature, check_minimum)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("check", CHECKS)
def test_every_term_keeps_the_contract(check: Callable[[Bind, str], None], name: str) -> None:
    assert name in HAND, f"{name} needs a hand-worked case"
    check(TERMS[name].bind, name)


def test_the_table_and_the_cases_name_the_same_terms() -> None:
    assert set(HAND) == set(TERMS)


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
        ("smoothing ignored", {"check_by_hand"}),
        ("classes weighed", {"check_by_hand", "check_orders"}),
    ],
)
def test_a_planted_fault_is_caught(fault: str, checks: set[str]) -> None:
    name, bind = FAULTS[fault]
    assert checks <= caught_by(bind, name)
    assert caught_by(TERMS[name].bind, name) == set()
