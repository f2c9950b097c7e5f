import json
from dataclasses import asdict, replace

import pytest

from nas_compress.architecture import Architecture, Width
from nas_compress.candidate import Candidate, distillation
from nas_compress.outcome import Measured, Outcome

ARCHITECTURE = Architecture(
    family="resnet",
    input_shape=(1, 8, 8),
    classes=10,
    depths=(1, 1),
    widths=(Width(layer="stem.conv", asked=12.5, channels=16), Width(layer="stages.0", asked=8.0, channels=8)),
    mean=5,
    std=6.0,
)
TRAINED = Outcome(
    candidate=Candidate(
        family="resnet", depths=(1, 1), losses=distillation(hard_weight=0.3, soft_weight=0.7, temperature=2)
    ),
    seed=3,
    state="trained",
    measured=Measured(
        latency_ms=0.1,
        latency_spread=0.02,
        latency_noisy=True,
        size_bytes=5,
        parameters=6,
        macs=7,
        accuracy=0.5,
        agreement=1.0,
        max_difference=1e-6,
    ),
    architecture=ARCHITECTURE,
    epochs=4,
    seconds={"training": 1.5},
    losses={"kd": 0.25},
)


def through_json(outcome: Outcome) -> Outcome:
    return Outcome.from_dict(json.loads(json.dumps(outcome.to_dict())))


def test_every_outcome_survives_json() -> None:
    failed = Outcome(candidate=TRAINED.candidate, seed=0, state="failed", reason="RuntimeError: no")
    unmeasured = replace(TRAINED, state="over_budget", measured=replace(TRAINED.measured, accuracy=None), reason="x")
    for outcome in (TRAINED, failed, unmeasured):
        assert through_json(outcome) == outcome


def test_architectures_survive_json_and_hash() -> None:
    again = Architecture.from_dict(json.loads(json.dumps(asdict(ARCHITECTURE))))
    assert again == ARCHITECTURE and hash(again) == hash(ARCHITECTURE)


def test_channels_are_found_by_the_layers_path() -> None:
    assert ARCHITECTURE.channels("stages.0") == 8
    with pytest.raises(KeyError, match="head"):
        ARCHITECTURE.channels("head")


def test_a_figure_that_was_not_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="accuracy was not measured"):
        replace(TRAINED.measured, accuracy=None).figure("accuracy")
