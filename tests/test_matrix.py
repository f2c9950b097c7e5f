"""Pairs of families, prunings, zero patterns, factorisations, precisions and losses train, export and agree.

The quick suite holds every value, the pairs of families, stored forms and changes of layers, and every width. The slow
one holds most pairs of values in few combinations, every combination of family, pruning, stored form and loss, every
one of family, pattern, factorisation and stored form with and without a vote, every pair of a width and a family,
method or factorisation, and every mixture of bits in each family.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from covering import pairwise, valid_pairs
from image_files import predict_logits
from nas_compress.losses.table import TERMS, needs_teacher
from nas_compress.losses.term_kinds import FeatureTerm
from nas_compress.models.families import FAMILIES
from nas_compress.pruning.importance_criteria import CRITERIA
from nas_compress.pruning.ranking import RANKINGS
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.shape import channel_step
from nas_compress.values.candidate import PRUNED, Candidate, LossTerm
from nas_compress.values.outcome import Outcome
from nas_compress.values.precision import METHODS, Quantization, precisions
from nas_compress.values.pruning import ZERO_PATTERNS
from nas_compress.values.requested_shape import FACTORIZATIONS
from nas_compress.values.signature import Signature
from processors import skip_if_saturated

PRUNINGS = (
    (0.0, "uniform", "global"),
    *((0.5, criterion, ranking) for criterion, ranking in zip(CRITERIA, itertools.cycle(RANKINGS), strict=False)),
)
OF_IMAGES = [name for name, family in FAMILIES.items() if family.fits(Signature.of_images((1, 8, 8), classes=10))]
FAMILY_NAMES = [*OF_IMAGES, PRUNED]
FORMS = ((32, 32), (8, 32), (8, 8))
"""Stored floats, stored integers and integer kernels. Other bits differ only in the integers and their bytes."""

ALONE = {"cross_entropy", "label_smoothing", "teacher_free", "label_refinery", "kd"}
LOSSES = {
    name: (LossTerm(name=name),) if name in ALONE else (LossTerm(name="cross_entropy"), LossTerm(name=name))
    for name in TERMS
    if name != "teacher_targets"  # of regressions; see test_task_matrix.py
}
OF_TRANSFORMERS = [name for name, term in TERMS.items() if term.needs in ("tokens", "relations")]
FACTORS = {
    "family": FAMILY_NAMES,
    "pruning": PRUNINGS,
    "bits": FORMS,
    "loss": [name for name in LOSSES if name not in OF_TRANSFORMERS],
    "zeros": list(ZERO_PATTERNS),
    "layers": list(FACTORIZATIONS),
}
LAYER_FACTORS = FACTORS | {"pruning": [PRUNINGS[0], PRUNINGS[1]], "loss": ["kd"]}
WIDTH_FACTORS = {
    "family": OF_IMAGES,
    "bits": precisions(),
    "method": list(METHODS),
    "pruning": [PRUNINGS[0], PRUNINGS[1]],
    "loss": ["cross_entropy", "kd"],
}
CHANCE = 0.1
ACCURACIES: list[float] = []


def valid(combination: dict[str, Any]) -> bool:
    """Return True if the values go together. Missing values never conflict. The teacher is a resnet."""
    term = TERMS[combination.get("loss", "cross_entropy")]
    maps = isinstance(term, FeatureTerm) and term.needs == "maps"
    if maps and combination.get("family") in ("vit", "mlp"):
        return False
    return combination.get("method", "calibrate") == "calibrate" or combination.get("bits", (8, 8))[0] <= 8


def valid_width(combination: dict[str, Any]) -> bool:
    """Simulated activations are combined with one family only; `pruned` is combined with the stored forms above."""
    bits, family = combination.get("bits", (8, 8)), combination.get("family")
    return valid(combination) and not (bits[1] == 4 and family not in (None, "resnet"))


def every_width_once() -> list[dict[str, Any]]:
    """Give each width the least used pairing of the other factors that goes with it."""
    others = pairwise({name: values for name, values in WIDTH_FACTORS.items() if name != "bits"}, valid_width)
    used = Counter[int]()
    found = []
    for bits in WIDTH_FACTORS["bits"]:
        place = min(
            (place for place, other in enumerate(others) if valid_width({**other, "bits": bits})),
            key=lambda place: used[place],
        )
        used[place] += 1
        found.append({name: {**others[place], "bits": bits}[name] for name in WIDTH_FACTORS})
    return found


APART = {("pruning", "loss"), ("loss", "zeros"), ("loss", "layers"), ("family", "loss")}
"""Losses are combined with families and changes of layers in the slow suite only, or not in all pairs."""

QUICK = {("family", "bits"), ("family", "zeros"), ("family", "layers"), ("bits", "zeros")}
"""Factors of which the quick suite holds every pair."""


def few(combinations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take combinations, greedily, until all values and the pairs of `QUICK` that they hold are held."""

    def held(combination: dict[str, Any]) -> set[tuple[str, ...]]:
        values = {name: str(value) for name, value in combination.items()}
        pairs = {(first, values[first], second, values[second]) for first, second in QUICK}
        return pairs | set(values.items())

    wanted = set[tuple[str, ...]]().union(*map(held, combinations))
    found = []
    while wanted:
        best = max(combinations, key=lambda combination: len(held(combination) & wanted))
        wanted -= held(best)
        found.append(best)
    return found


COMBINATIONS = pairwise(FACTORS, valid, APART)
FEW = few(COMBINATIONS)
WIDTHS = pairwise(WIDTH_FACTORS, valid_width)
FEW_WIDTHS = every_width_once()
"""Every width once."""

WIDTHS_OF_LAYERS = pairwise(WIDTH_FACTORS | {"layers": list(FACTORIZATIONS)}, valid_width)
PLAIN_LAYERS = {"zeros": ["none"], "layers": ["none"]}


def product(factors: dict[str, Any]) -> list[dict[str, Any]]:
    """Every valid combination."""
    found = [dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values())]
    return [combination for combination in found if valid(combination)]


EVERY = product(FACTORS | PLAIN_LAYERS) + [
    combination
    for combination in product(LAYER_FACTORS)
    if (combination["zeros"], combination["layers"]) != ("none", "none")
]


def candidate_of(combination: dict[str, Any]) -> Candidate:
    ratio, criterion, ranking = combination["pruning"]
    weight_bits, activation_bits = combination["bits"]
    losses = LOSSES[combination["loss"]]
    zeros, layers = combination.get("zeros", "none"), combination.get("layers", "none")
    return Candidate(
        family=combination["family"],
        depths=() if combination["family"] == PRUNED else (1,) * len(FAMILIES[combination["family"]].base_depths),
        width_multiplier=0.5,
        pruning_ratio=ratio,
        pruning_criterion=criterion,
        pruning_ranking=ranking,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        losses=losses,
        distillation_token=combination["family"] == "vit" and needs_teacher(losses),
        quantization=Quantization(method=combination.get("method", "calibrate")),
        zero_pattern=zeros,
        zero_fraction=0.0 if zeros == "none" else 0.5,
        factorization=layers,
        rank_fraction=1.0 if layers == "none" else 0.5,
    )


def name_of(combination: dict[str, Any]) -> str:
    return " ".join(str(value) for value in combination.values())


def test_nothing_is_left_out() -> None:
    assert {term.name for losses in LOSSES.values() for term in losses} == set(TERMS) - {"teacher_targets"}
    assert {criterion for _, criterion, _ in PRUNINGS} == set(CRITERIA)
    assert {ranking for _, _, ranking in PRUNINGS} == set(RANKINGS)
    for factors, combinations, rule, apart in (
        (FACTORS, COMBINATIONS, valid, APART),
        (WIDTH_FACTORS, WIDTHS, valid_width, ()),
    ):
        names = list(factors)
        for first, i, second, j in valid_pairs(factors, rule, apart):
            one, other = factors[first][i], factors[second][j]
            assert any(each[first] == one and each[second] == other for each in combinations), (one, other)
        assert all(rule(each) and list(each) == names for each in combinations)
    for name, values in FACTORS.items():
        assert {str(each[name]) for each in FEW} == {str(value) for value in values}
    for name, values in WIDTH_FACTORS.items():
        assert {str(each[name]) for each in FEW_WIDTHS} == {str(value) for value in values}
    families, maps = len(FAMILY_NAMES), sum(TERMS[name].needs == "maps" for name in FACTORS["loss"])
    plain = len(PRUNINGS) * len(FORMS) * (families * len(FACTORS["loss"]) - 2 * maps)
    assert len(EVERY) == plain + 2 * families * len(FORMS) * (len(ZERO_PATTERNS) * len(FACTORIZATIONS) - 1)


@pytest.mark.parametrize(
    "combination",
    [each if each in FEW else pytest.param(each, marks=pytest.mark.slow) for each in COMBINATIONS],
    ids=name_of,
)
def test_every_pair_trains_and_ships(combination: dict[str, Any], context: TrialContext, tmp_path: Path) -> None:
    check(candidate_of(combination), context, tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("combination", EVERY, ids=name_of)
def test_every_combination_trains_and_ships(combination: dict[str, Any], context: TrialContext, tmp_path: Path) -> None:
    check(candidate_of(combination), context, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "combination",
    [*FEW_WIDTHS, *(pytest.param(each, marks=pytest.mark.slow) for each in [*WIDTHS, *WIDTHS_OF_LAYERS])],
    ids=name_of,
)
def test_every_width_and_method_trains_and_ships(
    combination: dict[str, Any], context: TrialContext, tmp_path: Path
) -> None:
    longer = replace(context, training=context.training.model_copy(update={"epochs": 2}))
    candidate = candidate_of(combination)
    check(candidate, longer if candidate.precision.quantization.is_trained else context, tmp_path / "model.onnx")


MIXED = {
    "stages": Quantization(method="lsq", stage_bits=(2, 4, 8)),
    "promoted": Quantization(method="ste", promoted_layers=2, stage_bits=(8, 2, 2)),
    "percentile": Quantization(ranges="percentile", end_bits=4),
    "mse": Quantization(ranges="mse", promoted_layers=1),
    "codebook": Quantization(method="lsq", weight_format="codebook", stage_bits=(8, 1, 4)),
    "codebook after training": Quantization(weight_format="codebook", promoted_layers=1),
}


MIXTURES = list(itertools.product(MIXED, OF_IMAGES))


@pytest.mark.parametrize(
    ("mixture", "family"),
    [each if place % 3 == 0 else pytest.param(*each, marks=pytest.mark.slow) for place, each in enumerate(MIXTURES)],
)
def test_layers_of_different_bits_ship_together(
    mixture: str, family: str, context: TrialContext, tmp_path: Path
) -> None:
    stages = len(FAMILIES[family].base_depths)
    quantization = replace(MIXED[mixture], stage_bits=MIXED[mixture].stage_bits[-stages:])
    longer = replace(context, training=context.training.model_copy(update={"epochs": 2}))
    combination = {"family": family, "pruning": PRUNINGS[1], "bits": (4, 8), "loss": "kd"}
    candidate = replace(candidate_of(combination), quantization=quantization)
    name = "model.onnx.xz" if quantization.weight_format == "codebook" else "model.onnx"
    check(candidate, longer if quantization.is_trained else context, tmp_path / name)


@pytest.mark.parametrize(
    ("sharing", "bits", "method", "layers"),
    [
        ("all", (4, 8), "lsq", "low_rank"),
        ("attention", (1, 32), "ste", "none"),
        ("mlp", (8, 8), "calibrate", "low_rank"),
    ],
)
def test_layers_that_share_weights_ship(
    sharing: str, bits: tuple[int, int], method: str, layers: str, context: TrialContext, tmp_path: Path
) -> None:
    longer = replace(context, training=context.training.model_copy(update={"epochs": 2}))
    combination = {"family": "vit", "pruning": PRUNINGS[1], "bits": bits, "loss": "kd", "method": method}
    candidate = candidate_of(combination | {"layers": layers})
    check(
        replace(candidate, depths=(3,), sharing=sharing),
        longer if method != "calibrate" else context,
        tmp_path / "m.onnx",
    )


@pytest.mark.parametrize("bits", FORMS, ids=str)
@pytest.mark.parametrize("loss", OF_TRANSFORMERS)
def test_transformers_teach_transformers(
    loss: str, bits: tuple[int, int], vit_context: TrialContext, tmp_path: Path
) -> None:
    combination = {"family": "vit", "pruning": PRUNINGS[0], "bits": bits, "loss": loss}
    check(candidate_of(combination), vit_context, tmp_path / "model.onnx")


def check(candidate: Candidate, context: TrialContext, model: Path) -> Outcome:
    """Run one trial; its outcome must agree with its file."""
    outcome = run_trial(candidate, context, seed=0, model=model)
    skip_if_saturated(outcome)
    assert outcome.state == "trained", outcome.reason
    measured, architecture = outcome.measured, outcome.architecture
    assert measured is not None and architecture is not None
    assert set(outcome.losses) == {term.name for term in candidate.losses}
    assert outcome.epochs == context.training.epochs

    # the shape is the one asked for, and the file holds it
    assert all(width.channels % channel_step(candidate, context.target) == 0 for width in architecture.widths)
    assert measured.figures["size_bytes"] == model.stat().st_size < 6 * measured.figures["parameters"] + 30_000
    assert measured.figures["latency_ms"] > 0 and measured.figures["macs"] >= measured.figures["parameters"] > 0

    # the file answers, like the module and better than chance
    validation = context.dataset.validation
    logits = predict_logits(model, validation.inputs["input"].numpy())
    assert logits.shape == (len(validation), 10) and np.isfinite(logits).all()
    accuracy = float((logits.argmax(axis=1) == validation.targets["label"].numpy()).mean())
    assert measured.figures["accuracy"] == pytest.approx(accuracy)
    assert measured.agreement is not None
    assert measured.agreement >= {32: 0.999, 8: 0.9, 4: 0.7}[candidate.precision.activation_bits]
    ACCURACIES.append(accuracy)
    assert measured.zero_fraction is not None
    if candidate.sparsity.pattern != "none":
        dense = 0.25 if candidate.sparsity.pattern == "two_four" else 0.04  # depthwise layers have no four inputs
        assert measured.zero_fraction > candidate.sparsity.fraction - dense, "in the file"
    return outcome


def test_most_of_them_learned() -> None:
    if len(ACCURACIES) < len(FEW):
        pytest.skip("needs the combinations above")
    assert np.mean(np.array(ACCURACIES) > 2 * CHANCE) > 0.8
