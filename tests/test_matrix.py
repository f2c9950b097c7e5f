"""Every family, pruning, precision and teaching, each with each: all of it trains, exports and answers alike."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from nas_compress.candidate import BITS, PRUNED, Candidate, cross_entropy, distillation, label_smoothing
from nas_compress.losses.terms import needs_teacher
from nas_compress.measurement.prediction import predict
from nas_compress.models.families import FAMILIES
from nas_compress.pruning.criteria import CRITERIA
from nas_compress.pruning.ranking import RANKINGS
from nas_compress.trial.bench import Bench
from nas_compress.trial.run import run_trial

PRUNINGS = (
    (0.0, "uniform", "global"),
    *((0.5, criterion, ranking) for criterion, ranking in zip(CRITERIA, itertools.cycle(RANKINGS), strict=False)),
)
PRECISIONS = tuple((weights, activations) for weights in BITS for activations in BITS if weights <= activations)
TEACHINGS = (
    cross_entropy(),
    label_smoothing(0.1),
    distillation(hard_weight=0.1, soft_weight=0.9, temperature=2.0),
)
COMBINATIONS = [  # each family with each pruning and precision; every two of pruning, precision and teaching meet
    (family, pruning, bits, TEACHINGS[(row + column) % len(TEACHINGS)])
    for family in (*FAMILIES, PRUNED)
    for row, pruning in enumerate(PRUNINGS)
    for column, bits in enumerate(PRECISIONS)
    if family != PRUNED or row % 3 == 0  # the same votes on the same layers
]
CHANCE = 0.1
ACCURACIES: list[float] = []


def test_nothing_is_left_out() -> None:
    assert {needs_teacher(teaching) for teaching in TEACHINGS} == {True, False}
    assert {criterion for _, criterion, _ in PRUNINGS} == set(CRITERIA)
    assert {ranking for _, _, ranking in PRUNINGS} == set(RANKINGS)
    for pair in itertools.product(PRUNINGS, TEACHINGS):
        assert any(pair == (pruning, losses) for _, pruning, _, losses in COMBINATIONS)
    for bits, losses in itertools.product(PRECISIONS, TEACHINGS):
        assert any((bits, losses) == tuple(rest) for _, _, *rest in COMBINATIONS)


@pytest.mark.parametrize(("family", "pruning", "bits", "losses"), COMBINATIONS)
def test_every_combination_trains_and_ships(
    family: str,
    pruning: tuple[float, str, str],
    bits: tuple[int, int],
    losses: tuple,
    bench: Bench,
    tmp_path: Path,
) -> None:
    candidate = Candidate(
        family=family,
        depths=() if family == PRUNED else (1,) * len(FAMILIES[family].base_depths),
        width_multiplier=0.5,
        pruning_ratio=pruning[0],
        pruning_criterion=pruning[1],
        pruning_ranking=pruning[2],
        weight_bits=bits[0],
        activation_bits=bits[1],
        losses=losses,
        distillation_token=family == "vit" and needs_teacher(losses),
    )
    model = tmp_path / "model.onnx"
    outcome = run_trial(candidate, bench, seed=0, model=model)
    assert outcome.state == "trained", outcome.reason
    measured, architecture = outcome.measured, outcome.architecture
    assert measured is not None and architecture is not None
    assert set(outcome.losses) == {term.name for term in losses} and outcome.epochs == 1

    # the shape is the one asked for, and the file holds it
    assert all(width.channels % candidate.channel_step == 0 for width in architecture.widths)
    assert measured.size_bytes == model.stat().st_size < 6 * measured.parameters + 30_000
    assert measured.latency_ms > 0 and measured.macs > measured.parameters > 0

    # the file answers, like the module and better than chance
    validation = bench.dataset.validation
    logits = predict(model, validation.inputs.numpy())
    assert logits.shape == (len(validation), 10) and np.isfinite(logits).all()
    accuracy = float((logits.argmax(axis=1) == validation.labels.numpy()).mean())
    assert measured.accuracy == pytest.approx(accuracy)
    assert measured.agreement is not None and measured.agreement >= (0.9 if bits == (8, 8) else 0.999)
    ACCURACIES.append(accuracy)


def test_most_of_them_learned() -> None:
    if len(ACCURACIES) < len(COMBINATIONS):
        pytest.skip("needs the combinations above")
    assert np.mean(np.array(ACCURACIES) > 2 * CHANCE) > 0.9
