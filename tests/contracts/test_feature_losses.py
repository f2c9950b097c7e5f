"""One suite that every term on features passes, and faults that it must catch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.losses.features import (
    AttentionTransfer,
    Fitnet,
    RkdDistance,
    SimilarityPreserving,
    rkd_angle,
    rkd_distance,
    sentence_embedding,
    similarity_preserving,
)
from nas_compress.losses.table import TERMS
from nas_compress.losses.term_kinds import FeatureLoss, FeatureTerm, complete_settings
from nas_compress.losses.transformer_features import (
    AttentionMatrix,
    HiddenState,
    MinilmRelations,
    TokenLoss,
    minilm_relations,
)
from nas_compress.models.features import Observation

FEATURE_TERMS = {name: term for name, term in TERMS.items() if isinstance(term, FeatureTerm)}
Make = Callable[[Observation, Observation], FeatureLoss]
ROOT = math.sqrt(0.5)


def maps(seed: int, channels: tuple[int, ...], sides: tuple[int, ...], batch: int = 6) -> Observation:
    """A convolutional network's: a stem and stages."""
    random = torch.Generator().manual_seed(seed)
    names = ["stem", *(f"stage{number}" for number in range(len(channels) - 1))]
    features = {
        name: torch.randn(batch, width, side, side, generator=random)
        for name, width, side in zip(names, channels, sides, strict=True)
    }
    return Observation(outputs={"logits": torch.randn(batch, 5, generator=random)}, features=features)


def tokens(seed: int, width: int, layers: int, batch: int = 6, count: int = 5, patches: int = 4) -> Observation:
    """A transformer's with 2 heads."""
    random = torch.Generator().manual_seed(seed)
    names = [f"layer{number}" for number in range(layers)]
    return Observation(
        outputs={"logits": torch.randn(batch, 5, generator=random)},
        features={name: torch.randn(batch, count, width, generator=random) for name in ["embedding", *names]},
        relations={
            name: tuple(torch.randn(batch, 2, count, width // 2, generator=random) for _ in range(3))  # type: ignore[misc]
            for name in names
        },
        patches=patches,
    )


def pair(name: str) -> tuple[Observation, Observation]:
    """A student and a teacher of other widths, depths and grids that the term must put together."""
    if FEATURE_TERMS[name].needs in ("tokens", "relations"):
        return tokens(0, 8, 2), tokens(1, 16, 3)
    return maps(0, (4, 4, 8), (8, 4, 2)), maps(1, (6, 6, 12, 24), (8, 8, 4, 2))


def maker(name: str) -> Make:
    def make(student: Observation, teacher: Observation) -> FeatureLoss:
        torch.manual_seed(0)
        return FEATURE_TERMS[name].build(complete_settings(name, FEATURE_TERMS[name], {}), student, teacher)

    return make


def every(seen: Observation, change: Callable[[Tensor], Tensor]) -> Observation:
    """The observation with each of its tensors changed."""
    return replace(
        seen,
        outputs={"logits": change(seen.outputs["logits"])},
        features={name: change(value) for name, value in seen.features.items()},
        relations={name: tuple(change(part) for part in parts) for name, parts in seen.relations.items()},  # type: ignore[misc]
    )


def parts(seen: Observation) -> list[Tensor]:
    return [*seen.features.values(), *(part for each in seen.relations.values() for part in each)]


# the laws

COMPARES_SAMPLES = {"rkd_distance", "rkd_angle", "similarity_preserving"}
"""A batch twice over has other pairs, so these change with it."""


def check_doubled_batch(make: Make, name: str) -> None:
    if name in COMPARES_SAMPLES:
        return
    student, teacher = pair(name)
    loss = make(student, teacher)
    twice = loss(*(every(seen, lambda value: torch.cat([value, value])) for seen in (student, teacher)))
    torch.testing.assert_close(twice, loss(student, teacher))


def check_order(make: Make, name: str) -> None:
    student, teacher = pair(name)
    loss, order = make(student, teacher), torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(
        loss(*(every(seen, lambda value: value[order]) for seen in (student, teacher))), loss(student, teacher)
    )


def check_gradients(make: Make, name: str) -> None:
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        student, teacher = (every(seen, lambda value, kind=kind: (value * 3).to(kind)) for seen in pair(name))
        student, teacher = (every(seen, Tensor.requires_grad_) for seen in (student, teacher))
        made = make(student, teacher)
        loss = made(student, teacher)
        assert loss.dtype == torch.float32 and loss.shape == () and bool(torch.isfinite(loss))
        loss.backward()
        gradients = [part.grad for part in parts(student) if part.grad is not None]
        assert gradients and all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
        assert any(bool(gradient.any()) for gradient in gradients)
        assert all(part.grad is None for part in parts(teacher))
        assert all(parameter.grad is not None for parameter in made.parameters())
        if kind != torch.float16:  # which autocast does not know on a CPU
            with torch.autocast("cpu", torch.bfloat16):  # as on a GPU: adaptation layers compute in bfloat16
                rounded = made(student, teacher)
            assert rounded.dtype == torch.float32
            torch.testing.assert_close(rounded, loss, rtol=0.05, atol=1e-3)


def check_equality(make: Make, name: str) -> None:
    """0 where the student is the teacher, and more elsewhere; only without a projection in between."""
    student, teacher = pair(name)
    loss = make(teacher, teacher)
    if any(True for _ in loss.parameters()):
        return
    assert float(loss(teacher, teacher)) < 1e-10
    assert float(make(student, teacher)(student, teacher).detach()) > 1e-4 if name != "attention_matrix" else True
    other = every(teacher, lambda value: value + 0.1 * value.roll(1, dims=0))
    assert float(loss(other, teacher)) > 1e-8


def check_equal_samples(make: Make, name: str) -> None:
    """A batch of one sample over and over has no distances; nothing may become infinite."""
    student, teacher = (every(seen, lambda value: value[:1].expand_as(value).clone()) for seen in pair(name))
    student = every(student, Tensor.requires_grad_)
    loss = make(student, teacher)(student, teacher)
    assert bool(torch.isfinite(loss))
    loss.backward()
    assert all(part.grad is None or bool(torch.isfinite(part.grad).all()) for part in parts(student))


def check_min_batch(make: Make, name: str) -> None:
    """`min_batch` samples give a gradient, fewer give none."""
    least = FEATURE_TERMS[name].min_batch
    for size in range(1, least + 1):
        student, teacher = (every(seen, lambda value, size=size: value[:size].clone()) for seen in pair(name))
        student = every(student, Tensor.requires_grad_)
        make(student, teacher)(student, teacher).backward()
        largest = max(float(part.grad.abs().max()) for part in parts(student) if part.grad is not None)
        assert (largest > 1e-5) == (size == least)


CHECKS = (check_doubled_batch, check_order, check_gradients, check_equality, check_equal_samples, check_min_batch)


@pytest.mark.parametrize("name", FEATURE_TERMS)
@pytest.mark.parametrize("check", CHECKS)
def test_every_term_keeps_the_contract(check: Callable[[Make, str], None], name: str) -> None:
    check(maker(name), name)


# by hand

HAND: dict[str, Callable[[], tuple[Tensor, float]]] = {
    # distances 1, 3, 2 over their mean 2, and 1, 2, 1 over 4/3: twice 0.25 apart, four of nine entries
    "rkd_distance": lambda: (
        rkd_distance(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [1.0], [2.0]])),
        4 * 0.5 * 0.25**2 / 9,
    ),
    # cosines 0, 1/sqrt 2, 1/sqrt 2 at the corners of a right triangle, and 1, -1, 1 on a line
    "rkd_angle": lambda: (
        rkd_angle(torch.tensor([[0.0, 0], [1, 0], [0, 1]]), torch.tensor([[0.0, 0], [1, 0], [2, 0]])),
        2 * (0.5 + (1 + ROOT - 0.5) + 0.5 * (1 - ROOT) ** 2) / 27,
    ),
    # opposite directions in one of two samples would give 4, right angles give 2
    "sentence_embedding": lambda: (
        sentence_embedding(torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0], [5.0, 5.0]])),
        1.0,
    ),
    "similarity_preserving": lambda: (similarity_preserving(torch.eye(2), torch.ones(2, 1)), 1 - ROOT),
    "attention_transfer": lambda: (
        AttentionTransfer(_map([1, 1]), _map([2, 0]))(_map([1, 1]), _map([2, 0])),
        1 - ROOT,
    ),
    "fitnet": lambda: (_with_identity(Fitnet(_map([1, 1]), _map([3, 4])))(_map([1, 1]), _map([3, 4])), (4 + 9) / 2),
    "hidden_state": lambda: (_hidden([3.0, 1.0], [2.0, 6.0]), 4.0),  # (1, -1) and (-1, 1) once normalised
    "embedding": lambda: (_hidden([3.0, 1.0], [6.0, 2.0]), 0.0),
    "attention_matrix": lambda: (
        AttentionMatrix(_query([2.0, 0, 0, 0]), _query([0.0, 0, 0, 0]))(_query([2.0, 0, 0, 0]), _query([0.0, 0, 0, 0])),
        1.0,  # one score of 4 / sqrt 4 among four
    ),
    # one row of the teacher is 3/4, 1/4, the other rows are even
    "minilm_relations": lambda: (
        minilm_relations(
            torch.zeros(1, 1, 2, 1), torch.tensor([math.sqrt(math.log(3)), 0.0]).reshape(1, 1, 2, 1), heads=1
        ),
        (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2,
    ),
}


def _map(row: list[float]) -> Observation:
    feature = torch.tensor(row, dtype=torch.float32).reshape(1, 1, 1, 2)
    return Observation(outputs={"logits": torch.zeros(1, 2)}, features={"stem": feature * 0, "stage0": feature})


def _with_identity(loss: Fitnet) -> Fitnet:
    loss.regressor = nn.Sequential(nn.Identity())
    return loss


def _hidden(student: list[float], teacher: list[float]) -> Tensor:
    ours, theirs = (
        Observation(outputs={"logits": torch.zeros(1, 2)}, features={"layer0": torch.tensor([[row]])})
        for row in (student, teacher)
    )
    loss = TokenLoss(ours, theirs, [("layer0", "layer0")], "hidden_state")
    nn.init.eye_(loss.projections[0].weight)  # type: ignore[arg-type]
    return loss(ours, theirs)  # type: ignore[no-any-return]


def _query(first: list[float]) -> Observation:
    vectors = torch.tensor([first, [0.0] * 4]).reshape(1, 1, 2, 4)
    return Observation(
        outputs={"logits": torch.zeros(1, 2)},
        features={"embedding": vectors[0]},
        relations={"layer0": (vectors, vectors, vectors)},
    )


@pytest.mark.parametrize("name", FEATURE_TERMS)
def test_every_term_by_hand(name: str) -> None:
    value, expected = HAND[name]()
    assert float(value.detach()) == pytest.approx(expected, rel=1e-4, abs=1e-6)


# planted faults


class Unnormalised(RkdDistance):
    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        ours, theirs = (list(seen.features.values())[-1].mean((2, 3)) for seen in (student, teacher))
        return F.smooth_l1_loss(torch.cdist(ours, ours), torch.cdist(theirs.detach(), theirs.detach()))


class TeacherLearns(SimilarityPreserving):
    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        return similarity_preserving(student.features["stage1"], teacher.features["stage2"])


class Summed(AttentionTransfer):
    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        return super().forward(student, teacher) * len(student.outputs["logits"])


class Shuffled(MinilmRelations):
    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        return super().forward(student, every(teacher, lambda value: value.roll(1, dims=0)))


@pytest.mark.parametrize(
    ("name", "make", "check"),
    [
        ("rkd_distance", Unnormalised, check_gradients),
        ("similarity_preserving", TeacherLearns, check_gradients),
        ("attention_transfer", Summed, check_doubled_batch),
        ("minilm_relations", lambda student, teacher: Shuffled(student, teacher, relation_heads=4), check_equality),
    ],
)
def test_a_planted_fault_is_caught(name: str, make: Make, check: Callable[[Make, str], None]) -> None:
    caught = False
    try:
        check(make, name)
    except (AssertionError, RuntimeError):
        caught = True
    assert caught
    check(maker(name), name)


# what does not fit


def test_what_two_transformers_must_share_is_named() -> None:
    student, teacher = tokens(0, 8, 2), tokens(1, 16, 3)
    fewer = every(teacher, lambda value: value[:, :1] if value.ndim == 4 else value)
    with pytest.raises(RequestError, match=r"'attention_matrix' needs a student with as many heads .* got 2 and 1"):
        AttentionMatrix(student, fewer)
    with pytest.raises(RequestError, match=r"relation_heads .* must divide .* got 3 and the student's 8"):
        MinilmRelations(student, teacher, relation_heads=3)
    with pytest.raises(RequestError, match=r"cut the image into the same patches, but got 4 and 9"):
        HiddenState(student, tokens(1, 16, 3, count=9, patches=9))


def test_the_last_layers_are_paired_one_to_one() -> None:
    student, teacher = tokens(0, 8, 2), tokens(1, 16, 3)
    last = HiddenState(student, teacher, last_layers=1)
    others = {name: value + 1 for name, value in teacher.features.items() if name != "layer2"}
    assert last.pairs == [("layer1", "layer2")]
    torch.testing.assert_close(
        last(student, replace(teacher, features={**others, "layer2": teacher.features["layer2"]})),
        last(student, teacher),
    )
    assert HiddenState(student, teacher, last_layers=2).pairs == [("layer0", "layer1"), ("layer1", "layer2")]
    for wrong in (3, 1.5):
        with pytest.raises(RequestError, match=r"last_layers of loss .* whole number of at most 2, .* \(2 and 3\)"):
            HiddenState(student, teacher, last_layers=wrong)


def test_special_tokens_of_one_side_are_left_out() -> None:
    student, teacher = tokens(0, 8, 2), tokens(1, 16, 3, count=6)
    loss = HiddenState(student, teacher)
    moved = replace(teacher, features={name: value.roll(1, dims=0) for name, value in teacher.features.items()})
    kept = {name: torch.cat([moved.features[name][:, :2], value[:, 2:]], 1) for name, value in teacher.features.items()}
    torch.testing.assert_close(loss(student, replace(teacher, features=kept)), loss(student, teacher))
