"""Every family, pruning, precision and teaching, each with each: all of it trains, exports and answers alike."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas_compress.candidate import Candidate, cross_entropy, distillation, label_smoothing
from nas_compress.losses.terms import TERMS, needs_teacher
from nas_compress.measurement.prediction import predict
from nas_compress.models.families import FAMILIES
from nas_compress.precision import Quantization, precisions
from nas_compress.pruning.criteria import CRITERIA
from nas_compress.pruning.ranking import RANKINGS
from nas_compress.trial.bench import Bench
from nas_compress.trial.run import run_trial

PRUNINGS = (
    (0.0, "uniform", "global"),
    *((0.5, criterion, ranking) for criterion, ranking in zip(CRITERIA, itertools.cycle(RANKINGS), strict=False)),
)
FULLY_CROSSED = ((32, 32), (8, 32), (8, 8))
"""Stored floats, stored integers and integer kernels, with every pruning and teaching. The other widths differ from
these in the weights' integers and bytes alone: each meets every family, with prunings and teachings in turn."""
TEACHINGS = (
    cross_entropy(),
    label_smoothing(0.1),
    distillation(hard_weight=0.1, soft_weight=0.9, temperature=2.0),
)
CROSSED = [  # each family with each pruning and precision; every two of pruning, precision and teaching meet
    (family, pruning, bits, TEACHINGS[(row + column) % len(TEACHINGS)])
    for family in FAMILIES
    for row, pruning in enumerate(PRUNINGS)
    for column, bits in enumerate(FULLY_CROSSED)
]
OTHER_WIDTHS = [
    (family, pruning, bits, teaching)
    for (bits, family), pruning, teaching in zip(
        itertools.product([bits for bits in precisions() if bits not in FULLY_CROSSED], FAMILIES),
        itertools.cycle(PRUNINGS),
        itertools.cycle(TEACHINGS),
        strict=False,
    )
]
COMBINATIONS = [*CROSSED, *OTHER_WIDTHS]
CHANCE = 0.1
ACCURACIES: list[float] = []
TRAINED_ACCURACIES: list[float] = []


def test_nothing_is_left_out() -> None:
    assert {term.name for teaching in TEACHINGS for term in teaching} == set(TERMS)
    assert {criterion for _, criterion, _ in PRUNINGS} == set(CRITERIA)
    assert {ranking for _, _, ranking in PRUNINGS} == set(RANKINGS)
    for pair in itertools.product(PRUNINGS, TEACHINGS):
        assert any(pair == (pruning, losses) for _, pruning, _, losses in COMBINATIONS)
    for bits, losses in itertools.product(FULLY_CROSSED, TEACHINGS):
        assert any((bits, losses) == tuple(rest) for _, _, *rest in COMBINATIONS)
    assert {(family, bits) for family, _, bits, _ in COMBINATIONS} == set(itertools.product(FAMILIES, precisions()))


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
        depths=(1,) * len(FAMILIES[family].base_depths),
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
    assert measured.agreement is not None and measured.agreement >= {32: 0.999, 8: 0.9, 4: 0.7}[bits[1]]
    ACCURACIES.append(accuracy)


TRAINED = [
    (family, bits, method, pruning, teaching)
    for ((family, bits), method), pruning, teaching in zip(
        zip(
            [(family, bits) for bits in precisions() if bits[0] <= 8 and bits[1] == 8 for family in FAMILIES],
            itertools.cycle(["lsq", "lsq", "ste", "ste"]),
            strict=False,
        ),
        itertools.cycle(PRUNINGS),
        itertools.cycle(TEACHINGS),
        strict=False,
    )
]
"""Trained quantization: every family at every width of integer kernels, the two methods in turn."""


@pytest.mark.parametrize(("family", "bits", "method", "pruning", "losses"), TRAINED)
def test_every_family_learns_under_rounding(
    family: str,
    bits: tuple[int, int],
    method: str,
    pruning: tuple[float, str, str],
    losses: tuple,
    bench: Bench,
    tmp_path: Path,
) -> None:
    candidate = Candidate(
        family=family,
        depths=(1,) * len(FAMILIES[family].base_depths),
        width_multiplier=0.5,
        pruning_ratio=pruning[0],
        pruning_criterion=pruning[1],
        pruning_ranking=pruning[2],
        weight_bits=bits[0],
        activation_bits=bits[1],
        losses=losses,
        distillation_token=family == "vit" and needs_teacher(losses),
        quantization=Quantization(method=method),
    )
    longer = replace(bench, training=bench.training.model_copy(update={"epochs": 2}))
    outcome = run_trial(candidate, longer, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained" and outcome.epochs == 2, outcome.reason
    assert outcome.measured is not None and outcome.measured.agreement is not None
    assert outcome.measured.agreement >= 0.9 and outcome.measured.accuracy is not None
    TRAINED_ACCURACIES.append(outcome.measured.accuracy)


MIXED = [
    Quantization(method="lsq", stage_bits=(2, 4, 8)),
    Quantization(method="ste", promoted_layers=2),
    Quantization(ranges="percentile", end_bits=4),
    Quantization(ranges="mse", promoted_layers=1),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("quantization", MIXED)
def test_layers_of_different_bits_ship_together(
    family: str, quantization: Quantization, bench: Bench, tmp_path: Path
) -> None:
    depths = (1,) * len(FAMILIES[family].base_depths)
    quantization = replace(quantization, stage_bits=quantization.stage_bits[-len(depths) :])
    candidate = Candidate(
        family=family,
        depths=depths,
        width_multiplier=0.5,
        weight_bits=4,
        activation_bits=8,
        quantization=quantization,
    )
    outcome = run_trial(candidate, bench, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason


def test_most_of_them_learned() -> None:
    if len(ACCURACIES) < len(COMBINATIONS):
        pytest.skip("needs the combinations above")
    assert np.mean(np.array(ACCURACIES) > 2 * CHANCE) > 0.9
    assert np.mean(np.array(TRAINED_ACCURACIES) > 2 * CHANCE) > 0.9
