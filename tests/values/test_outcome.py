import json
from dataclasses import replace

import pytest

from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.candidate import Candidate, Teaching, distillation
from nas_compress.values.outcome import Measured, Outcome

ARCHITECTURE = Architecture.of_images(
    (1, 8, 8),
    family="resnet",
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
        figures={"accuracy": 0.5, "latency_ms": 0.1, "size_bytes": 5, "parameters": 6, "macs": 7},
        latency_spread=0.02,
        latency_noisy=True,
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


def untrained() -> Measured:
    figures = {name: value for name, value in TRAINED.measured.figures.items() if name != "accuracy"}
    return replace(TRAINED.measured, figures=figures)


def test_every_outcome_survives_json() -> None:
    failed = Outcome(candidate=TRAINED.candidate, seed=0, state="failed", reason="RuntimeError: no")
    unmeasured = replace(TRAINED, state="over_budget", measured=untrained(), reason="x")
    for outcome in (TRAINED, failed, unmeasured):
        assert through_json(outcome) == outcome


@pytest.mark.parametrize(
    ("teaching", "stopped_at", "spent", "saved"),
    [
        (Teaching(), 4, 4, 0),
        (Teaching(), 3, 3, 1),
        (Teaching(teacher="born_again", generations=3), 4, 12, 0),
        (Teaching(teacher="born_again", generations=3), 1, 9, 3),  # two generations whole, and one epoch of the last
        (Teaching(teacher="mutual", peers=2), 4, 12, 0),
        (Teaching(teacher="mutual", peers=2), 1, 3, 9),  # all three end together
    ],
    ids=["plain", "plain stopped", "born again", "born again stopped", "mutual", "mutual stopped"],
)
def test_every_network_of_a_trial_costs_epochs(teaching: Teaching, stopped_at: int, spent: int, saved: int) -> None:
    outcome = replace(
        TRAINED,
        candidate=replace(TRAINED.candidate, teaching=teaching),
        trainings=teaching.trainings,
        planned_epochs=4,
        epochs=stopped_at,
        state="trained" if stopped_at == 4 else "stopped",
    )
    assert (outcome.epochs_spent, outcome.epochs_saved) == (spent, saved)
    assert replace(outcome, teacher_epochs=20).epochs_spent == spent + 20
    assert through_json(outcome) == outcome and outcome.to_dict()["epochs_spent"] == spent


def test_what_was_never_trained_and_what_an_older_file_tells_cost_what_they_did() -> None:
    mutual = replace(TRAINED.candidate, teaching=Teaching(teacher="mutual", peers=2))
    assert Outcome(candidate=mutual, seed=0, state="over_budget").epochs_spent == 0
    older = {key: value for key, value in TRAINED.to_dict().items() if "epochs" not in key or key == "epochs"}
    assert Outcome.from_dict(older).epochs_spent == 4


def test_architectures_survive_json_and_hash() -> None:
    again = Architecture.from_dict(json.loads(json.dumps(ARCHITECTURE.to_dict())))
    assert again == ARCHITECTURE and hash(again) == hash(ARCHITECTURE)


def test_channels_are_found_by_the_layers_path() -> None:
    assert ARCHITECTURE.channels("stages.0") == 8
    with pytest.raises(KeyError, match="head"):
        ARCHITECTURE.channels("head")


def test_a_figure_that_was_not_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="accuracy was not measured"):
        untrained().figure("accuracy")
