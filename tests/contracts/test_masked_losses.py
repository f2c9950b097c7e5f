"""Terms on features of token networks: padding has no part in them, between all families of tokens."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.losses.table import TERMS
from nas_compress.losses.term_kinds import FeatureLoss, FeatureTerm, complete_settings
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.losses.transformer_features import minilm_relations
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.models.features import ObservableNetwork, Observation
from nas_compress.tasks.classification import Classification
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.candidate import LossTerm
from token_networks import TEXT, encoder, sentences

NAMES = [name for name, term in TERMS.items() if isinstance(term, FeatureTerm) and term.needs != "maps"]
OF_TOKENS = [name for name, family in FAMILIES.items() if family.fits(TEXT)]


def term_of(name: str, student: Observation, teacher: Observation) -> FeatureLoss:
    term = TERMS[name]
    assert isinstance(term, FeatureTerm)
    torch.manual_seed(0)
    settings = {"relation_heads": 2.0} if name == "minilm_relations" else {}
    return term.build(complete_settings(name, term, settings), student, teacher)


def seen(width: int, depth: int, samples: Tensor) -> Observation:
    network = encoder(width=width, depth=depth, heads=2)
    with torch.no_grad():
        return network.observe(samples, relations=True)


def with_other_padding(observation: Observation) -> Observation:
    """Other numbers wherever a sample has padding."""
    assert observation.mask is not None
    mask = observation.mask

    def change(values: Tensor) -> Tensor:
        tokens = mask.view(len(mask), *(1,) * (values.ndim - 3), -1, 1)
        return torch.where(tokens, values, 7.0 + torch.randn_like(values))

    return replace(
        observation,
        features={name: change(value) for name, value in observation.features.items()},
        relations={
            name: (change(queries), change(keys), change(values))
            for name, (queries, keys, values) in observation.relations.items()
        },
    )


@pytest.mark.parametrize("name", NAMES)
def test_padding_has_no_part_in_a_term(name: str) -> None:
    student, teacher = seen(8, 2, sentences()), seen(12, 3, sentences())
    loss = term_of(name, student, teacher)
    wanted = loss(student, teacher)
    assert torch.isfinite(wanted) and wanted > 0
    torch.testing.assert_close(loss(with_other_padding(student), with_other_padding(teacher)), wanted)
    longer = F.pad(sentences(), (0, 5))
    torch.testing.assert_close(loss(seen(8, 2, longer), seen(12, 3, longer)), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_samples_without_padding_count_as_without_a_mask(name: str) -> None:
    samples = torch.randint(1, 50, (4, 6), dtype=torch.int32, generator=torch.manual_seed(2))
    student, teacher = seen(8, 2, samples), seen(12, 3, samples)
    loss = term_of(name, student, teacher)
    plain = loss(replace(student, mask=None), replace(teacher, mask=None))
    torch.testing.assert_close(loss(student, teacher), plain)


@pytest.mark.parametrize("name", ["hidden_state", "attention_matrix", "minilm_relations"])
def test_a_padded_sample_has_the_loss_of_its_tokens(name: str) -> None:
    short = sentences()[2:3, :4]
    padded = sentences()[2:3]
    student, teacher = seen(8, 2, short), seen(12, 3, short)
    loss = term_of(name, student, teacher)
    torch.testing.assert_close(loss(seen(8, 2, padded), seen(12, 3, padded)), loss(student, teacher))


def test_a_student_with_fewer_tokens_learns_from_those_that_it_reads() -> None:
    network = encoder(width=8, heads=2, max_tokens=6)
    with torch.no_grad():
        student = network.observe(sentences(), relations=True)
    teacher, cut = seen(12, 3, sentences()), seen(12, 3, sentences()[:, :6])
    assert torch.isfinite(term_of("hidden_state", student, teacher)(student, teacher))
    same = replace(teacher, features={name: value[:, :6] for name, value in teacher.features.items()}, mask=cut.mask)
    loss = term_of("hidden_state", student, teacher)
    torch.testing.assert_close(loss(student, teacher), loss(student, same))


def test_relations_without_padding_by_hand() -> None:
    ours, theirs = torch.randn(1, 1, 3, 4), torch.randn(1, 1, 3, 4)
    mask = torch.tensor([[True, True, False]])
    logs = [F.log_softmax(part[0, 0, :2] @ part[0, 0, :2].T / 2, dim=1) for part in (ours, theirs)]
    wanted = (logs[1].exp() * (logs[1] - logs[0])).sum(dim=1).mean()
    torch.testing.assert_close(minilm_relations(ours, theirs, heads=1, mask=mask), wanted)


def network_of(family: str, seed: int) -> ObservableNetwork:
    known = FAMILIES[family]
    layers = known.layers(known.base_depths, tuple(8 for _ in known.base_widths))
    widths = tuple(Width(layer=layer, asked=0.0, channels=channels) for layer, channels in layers)
    torch.manual_seed(seed)
    return build_student(Architecture(family=family, signature=TEXT, depths=known.base_depths, widths=widths))


@pytest.mark.parametrize(("family", "taught_by"), list(itertools.product(OF_TOKENS, OF_TOKENS)))
def test_every_family_of_tokens_teaches_every_other(family: str, taught_by: str) -> None:
    student, teacher = network_of(family, 0).train(), network_of(taught_by, 1).eval()
    with torch.no_grad():
        guide = teacher.observe(sentences())
    terms = tuple(LossTerm(name=name) for name in ("cross_entropy", "kd", "rkd_distance", "similarity_preserving"))
    task = Classification(inputs=TEXT.inputs, classes=3)
    loss = TrainingLoss(task, terms, student=student.observe(sentences()), teacher=guide)
    targets = {"label": torch.tensor([0, 1, 2, 0, 1])}

    def total(samples: Tensor) -> Tensor:
        with torch.no_grad():
            known = teacher.observe(samples)
        return torch.stack(list(loss(student.observe(samples), targets, known).values())).sum()

    values = total(sentences())
    torch.testing.assert_close(total(F.pad(sentences(), (0, 4))), values, rtol=1e-4, atol=1e-5)
    values.backward()
    assert all(value.grad is not None for value in student.parameters())
