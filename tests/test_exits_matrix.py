"""Exits, bits and prunings train, export and measure together in every family that has exits; others refuse them.

The quick suite holds each kind of input once. The slow one holds every combination of family, exits, bits and pruning,
and every pair of these with trained rounding and zeros.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from covering import pairwise
from made_contexts import series_context, words_context
from nas_compress.errors import RequestError
from nas_compress.measurement.exit_use import exit_rates
from nas_compress.measurement.predictions import predict_split
from nas_compress.models.families import FAMILIES
from nas_compress.tasks.batch import to_arrays, to_rows
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate, Exits
from nas_compress.values.exits.figures import STREAM_SAMPLES, expected
from nas_compress.values.outcome import Outcome
from processors import skip_if_saturated
from test_matrix import OF_IMAGES, PRUNINGS, candidate_of, name_of

EXIT_PLACES = {
    "resnet": ("stage0", "stage1"),
    "mobilenet": ("stage0", "stage1"),
    "vit": ("layer0", "layer1"),
    "conv1d": ("stage0", "stage1"),
    "encoder": ("layer0", "layer1"),
    "recurrent": ("layer0",),
}
"""The places of exits of each family that has some."""

EXITS: dict[str, dict[str, Any]] = {
    "frozen": {},
    "distilled": {"confidence": "margin", "target": "last_exit"},
    "gates": {"confidence": "hinge"},
    "joint": {"confidence": "entropy", "training": "joint"},
    "patience": {"confidence": "patience", "training": "joint", "target": "last_exit"},
}
EXIT_FACTORS: dict[str, Any] = {
    "family": list(EXIT_PLACES),
    "exits": list(EXITS),
    "bits": [(32, 32), (8, 32), (8, 8), (2, 8)],
    "pruning": [PRUNINGS[0], PRUNINGS[1]],
}
FEW_EXITS: list[dict[str, Any]] = [
    dict(zip((*EXIT_FACTORS, "method"), values, strict=True))
    for values in (
        ("resnet", "joint", (2, 8), PRUNINGS[1], "lsq"),
        ("conv1d", "gates", (2, 32), PRUNINGS[1], "ste"),
        ("encoder", "distilled", (8, 32), PRUNINGS[0], "calibrate"),
    )
]
"""Each kind of input once; test_exits_trials.py has patience, contracts/test_early_exits.py has the other families."""

EVERY_EXIT = [dict(zip(EXIT_FACTORS, values, strict=True)) for values in itertools.product(*EXIT_FACTORS.values())]
TRAINED = {"bits": EXIT_FACTORS["bits"][1:], "method": ["lsq", "ste"], "zeros": ["none", "two_four", "gradual"]}
EVERY_EXIT += pairwise(EXIT_FACTORS | TRAINED)


@pytest.fixture(scope="module")
def context_of(context: TrialContext, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TrialContext]:
    """Contexts of the families, made at the first use."""
    made: dict[str, TrialContext] = {}

    def of(family: str) -> TrialContext:
        if family in OF_IMAGES:
            return context
        make = series_context if family == "conv1d" else words_context
        if make.__name__ not in made:
            made[make.__name__] = make(tmp_path_factory.mktemp("made"))
        return made[make.__name__]

    return of


def with_exits(combination: dict[str, Any]) -> Candidate:
    """Return the candidate of a combination, one stage or layer deeper than its exits."""
    family = combination["family"]
    after, base = EXIT_PLACES[family], FAMILIES[family].base_depths
    return replace(
        candidate_of({"loss": "cross_entropy"} | combination),
        depths=(len(after) + 1,) if len(base) == 1 else (1,) * len(base),
        exits=Exits(after=after, accuracy_loss=0.02, **EXITS[combination["exits"]]),
    )


def check_exits(combination: dict[str, Any], context: TrialContext, model: Path) -> None:
    """Run one trial with exits; its outcome must agree with its file."""
    after, candidate = EXIT_PLACES[combination["family"]], with_exits(combination)
    longer = replace(context, training=context.training.model_copy(update={"epochs": 2}))
    outcome = run_trial(candidate, longer, seed=0, model=model)
    skip_if_saturated(outcome)
    assert (outcome.state, outcome.reason) == ("trained", None)
    measured = outcome.measured
    assert measured is not None and measured.exits is not None
    exits, count = measured.exits, len(after) + 1
    assert len(exits.rates) == len(exits.latency_ms) == len(exits.macs) == count
    assert list(exits.macs) == sorted(exits.macs) and sum(exits.rates) == pytest.approx(1)
    assert measured.figure("latency_ms") == exits.stream_ms[0]
    assert measured.figure("latency_p95_ms") == exits.stream_ms[2]
    assert exits.stream_samples == min(STREAM_SAMPLES, len(context.dataset.validation))
    for number, point in exits.other_points:
        other = measured.at_exit_point(number)
        assert other.figure("accuracy") == pytest.approx(point.accuracy, abs=0.1)
        assert other.figure("latency_ms") == point.stream_ms[0]
        assert other.figure("size_bytes") == measured.figure("size_bytes")
        assert other.figure("macs") == round(expected(exits.macs, point.rates))
    assert measured.figure("macs") == round(exits.expected_macs)
    assert measured.figure("size_bytes") == model.stat().st_size
    costs = [expected(exits.macs, point.rates) for point in exits.points]
    assert costs == sorted(costs, reverse=True), "more loss is never dearer"
    joint = EXITS[combination["exits"]].get("training") == "joint"
    assert set(outcome.losses) == {"cross_entropy", *(f"exit{number}" for number in range(len(after)) if joint)}
    assert Outcome.from_dict(outcome.to_dict()) == outcome
    validation = longer.dataset.validation
    found = predict_split(
        model, longer.dataset.task, inputs=to_rows(validation.inputs), targets=to_arrays(validation.targets)
    )
    assert exit_rates(found["exit"], count) == exits.rates


@pytest.mark.parametrize("combination", FEW_EXITS, ids=name_of)
def test_exits_bits_and_pruning_train_and_ship_together(
    combination: dict[str, Any], context_of: Callable[[str], TrialContext], tmp_path: Path
) -> None:
    check_exits(combination, context_of(combination["family"]), tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("combination", EVERY_EXIT, ids=name_of)
def test_all_exits_bits_and_prunings_train_and_ship_or_are_refused_first(
    combination: dict[str, Any], context_of: Callable[[str], TrialContext], tmp_path: Path
) -> None:
    context = context_of(combination["family"])
    try:
        candidate_rules(context, seed=0).require(with_exits(combination))
    except RequestError as error:
        assert "\n" not in str(error)
    else:
        check_exits(combination, context, tmp_path / "model.onnx")


def test_every_other_family_refuses_exits_before_training(context_of: Callable[[str], TrialContext]) -> None:
    others = sorted(set(FAMILIES) - set(EXIT_PLACES))
    assert others == ["mlp", "text_bag", "text_cnn", "unet"]
    for family in others[:-1]:  # a unet has a class per pixel
        candidate = Candidate(
            family=family, depths=(2,) * len(FAMILIES[family].base_depths), exits=Exits(after=("layer0",))
        )
        data = context_of("resnet" if family == "mlp" else "encoder")
        with pytest.raises(
            RequestError, match=r"before the last one \(none\)|use another family, or no exits"
        ) as error:
            candidate_rules(data, seed=0).require(candidate)
        assert "\n" not in str(error.value)
