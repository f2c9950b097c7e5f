from __future__ import annotations

import errno
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas_compress.errors import RequestError
from nas_compress.pruning.teacher_shape import TeacherShape
from nas_compress.teacher.teacher import Teacher
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.shape import shaped, student_architecture
from nas_compress.values.candidate import Candidate, LossTerm, cross_entropy, distillation
from nas_compress.values.metrics.table import Budget
from nas_compress.values.outcome import Measured, Outcome

SMALL = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5)
KD = replace(
    SMALL,
    pruning_ratio=0.5,
    pruning_criterion="l1",
    weight_bits=8,
    activation_bits=8,
    losses=distillation(hard_weight=0.2, soft_weight=0.8, temperature=2.0),
)


def training(context: TrialContext, **changes: object) -> TrialContext:
    return replace(context, training=context.training.model_copy(update=changes))


@pytest.mark.parametrize("candidate", [SMALL, KD], ids=["float", "int8 and kd"])
def test_the_same_candidate_and_seed_give_the_same_bytes(
    candidate: Candidate, context: TrialContext, tmp_path: Path
) -> None:
    files = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)
        path = tmp_path / f"{number}.onnx"
        outcome = run_trial(candidate, context, seed=seed, model=path)
        assert outcome.state == "trained" and outcome.seed == seed
        files.append(path.read_bytes())
    assert files[0] == files[1] != files[2]


def test_an_outcome_is_whole_and_survives_json(context: TrialContext, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    outcome = run_trial(
        SMALL,
        training(context, epochs=2, batch_size=60),
        seed=0,
        model=tmp_path / "model.onnx",
        on_epoch=lambda done, planned: seen.append((done, planned)),
    )
    assert seen == [(1, 2), (2, 2)] and outcome.epochs == 2 and outcome.reason is None
    assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))) == outcome
    assert {"architecture", "export", "latency", "training", "accuracy"} <= set(outcome.seconds)
    assert outcome.measured is not None and "accuracy" in outcome.measured.figures
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(name="size_bytes", limit=100), "size_bytes <= 100 must hold, but size_bytes is "),
        (Budget(name="parameters", limit=10), "parameters <= 10 must hold"),
        (Budget(name="macs", limit=10), "macs <= 10 must hold"),
        (Budget(name="latency_ms", limit=1e-9), "latency_ms <= 1e-09 must hold"),
    ],
)
def test_a_broken_budget_ends_it_untrained(budget: Budget, words: str, context: TrialContext, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    outcome = run_trial(KD, replace(context, budgets=(budget,)), seed=0, model=model, on_epoch=never)
    assert outcome.state == "over_budget" and outcome.reason is not None and outcome.reason.startswith(words)
    assert (
        outcome.measured is not None
        and "accuracy" not in outcome.measured.figures
        and outcome.measured.figures["size_bytes"] > 0
    )
    assert outcome.architecture is not None and outcome.epochs == 0
    assert "training" not in outcome.seconds
    assert not model.exists(), "an untrained file must not pass for a student"
    assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))) == outcome


def never(done: int, planned: int) -> None:
    pytest.fail("it was trained")


def test_a_budget_on_accuracy_is_judged_after_training(context: TrialContext, tmp_path: Path) -> None:
    strict = replace(training(context, batch_size=60), budgets=(Budget(name="accuracy", limit=1.0),))
    outcome = run_trial(SMALL, strict, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained" and outcome.reason is not None
    assert outcome.reason.startswith("accuracy >= 1 must hold, but accuracy is 0.")
    assert outcome.measured is not None and outcome.measured.broken_budgets(()) == ""


def test_every_broken_budget_is_named(context: TrialContext, tmp_path: Path) -> None:
    both = (Budget(name="macs", limit=1), Budget(name="size_bytes", limit=1e12), Budget(name="parameters", limit=1))
    reason = run_trial(SMALL, replace(context, budgets=both), seed=0, model=tmp_path / "model.onnx").reason
    assert reason is not None and "macs" in reason and "parameters" in reason and "size_bytes" not in reason


def test_a_training_that_explodes_is_recorded(context: TrialContext, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    outcome = run_trial(SMALL, training(context, learning_rate=1e30), seed=0, model=model)
    assert outcome.state == "failed" and outcome.measured is None and not model.exists()
    assert outcome.reason is not None and "\n" not in outcome.reason
    assert outcome.reason.startswith("NonFiniteLossError: every loss term must be finite, but at step ")
    assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))) == outcome


def test_a_candidate_too_large_for_the_memory_is_recorded(context: TrialContext, tmp_path: Path) -> None:
    # one kernel of 144 TB: more than any address space has
    outcome = run_trial(replace(SMALL, width_multiplier=125_000), context, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "failed" and outcome.reason is not None and "\n" not in outcome.reason
    assert outcome.reason.startswith("the trial needs more memory than there is: RuntimeError: ")


def test_memory_that_runs_out_in_training_is_recorded(context: TrialContext, tmp_path: Path) -> None:
    def fail(done: int, planned: int) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    short = training(context, batch_size=60)
    outcome = run_trial(SMALL, short, seed=0, model=tmp_path / "model.onnx", on_epoch=fail)
    assert outcome.state == "failed" and str(outcome.reason).startswith("the trial needs more memory than there is: ")


def test_an_interrupt_passes_through(context: TrialContext, tmp_path: Path) -> None:
    def stop(done: int, planned: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(SMALL, training(context, batch_size=60), seed=0, model=tmp_path / "model.onnx", on_epoch=stop)
    assert list(tmp_path.iterdir()) == []


def test_scratch_b_trains_a_smaller_student_longer(context: TrialContext, tmp_path: Path) -> None:
    patient = training(context, budget="scratch_b", cap=2.0, batch_size=60)
    generous = replace(patient, teacher_macs=10**12)
    assert run_trial(SMALL, generous, seed=0, model=tmp_path / "a.onnx").epochs == 2
    assert run_trial(SMALL, replace(patient, teacher_macs=1), seed=0, model=tmp_path / "b.onnx").epochs == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "resnets"}, "a family must be a known name, but got 'resnets'; did you mean 'resnet'?"),
        ({"pruning_criterion": "l3"}, "a pruning criterion must be a known name, but got 'l3'"),
        ({"pruning_ranking": "locl"}, "a pruning ranking must be a known name, but got 'locl'; did you mean 'local'?"),
        ({"losses": (LossTerm(name="kdd"),)}, "a loss must be a known name, but got 'kdd'; did you mean 'kd'?"),
    ],
)
def test_unknown_names_are_refused(
    change: Mapping[str, object], message: str, context: TrialContext, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=re.escape(message)):
        run_trial(replace(SMALL, **change), context, seed=0, model=tmp_path / "model.onnx")


def test_a_shape_that_does_not_fit_is_no_failed_trial(context: TrialContext, tmp_path: Path) -> None:
    message = r"depths must have one entry per stage of resnet \(3\), but got depths=\(1, 1\)"
    with pytest.raises(RequestError, match=message):
        run_trial(replace(SMALL, depths=(1, 1)), context, seed=0, model=tmp_path / "model.onnx")


def asked(
    candidate: Candidate, context: TrialContext, teacher: Teacher | None = None, seed: int = 0
) -> dict[str, float]:
    architecture = student_architecture(candidate, replace(context, teacher=teacher or context.teacher), seed=seed)
    return {width.layer: width.asked for width in architecture.widths}


def test_a_student_of_the_teachers_family_starts_from_its_widths(context: TrialContext) -> None:
    assert asked(replace(SMALL, width_multiplier=1.0), context)["stages.2.0.main.1.conv"] == 64
    other = replace(SMALL, family="mobilenet", width_multiplier=1.0)
    assert asked(other, context)["stem.conv"] == 16  # the family's own


@pytest.mark.parametrize("family", ["resnet", "mobilenet"])
def test_a_uniform_vote_is_a_width_multiplier(family: str, context: TrialContext) -> None:
    whole = asked(Candidate(family=family, depths=(1, 1, 1)), context)
    cut = asked(Candidate(family=family, depths=(1, 1, 1), pruning_ratio=0.5), context)
    assert cut == {layer: pytest.approx(width / 2, rel=0.07) for layer, width in whole.items()}


def test_only_a_vote_by_chance_depends_on_the_seed(context: TrialContext) -> None:
    for criterion in ("l1", "bn_scale", "taylor", "random"):
        candidate = replace(SMALL, pruning_ratio=0.5, pruning_criterion=criterion)
        assert (asked(candidate, context, seed=1) == asked(candidate, context, seed=2)) == (criterion != "random")


def test_without_a_vote_the_criterion_does_not_matter(context: TrialContext) -> None:
    shapes = [
        shaped(
            replace(SMALL, pruning_criterion=name),
            context.dataset,
            step=16,
            groups=(),
            teacher=TeacherShape(family=None, widths=(), depths=()),
        )
        for name in ("uniform", "l1")
    ]
    assert shapes[0] == shapes[1]


def test_labels_alone_never_ask_the_teacher(context: TrialContext, tmp_path: Path) -> None:
    silent = replace(context.teacher, folder=tmp_path / "answers")
    few = replace(training(context, batch_size=60), teacher=silent)
    assert run_trial(replace(SMALL, losses=cross_entropy()), few, seed=0, model=tmp_path / "a.onnx").state == "trained"
    assert not silent.folder.exists()
    assert run_trial(KD, few, seed=0, model=tmp_path / "b.onnx").state == "trained"
    assert (silent.folder / "logits.safetensors").is_file()


class Strict:
    """A stopper that stops after the first of the given epochs with an accuracy below `bar`."""

    def __init__(self, *epochs: int, bar: float) -> None:
        self.epochs, self.bar = epochs, bar
        self.begun: tuple[Measured, int] | None = None
        self.seen: list[tuple[int, float]] = []

    def begin(self, cost: Measured, planned: int) -> None:
        self.begun = cost, planned

    def wants(self, epoch: int) -> bool:
        return epoch in self.epochs

    def stop_reason(self, epoch: int, accuracy: float) -> str | None:
        self.seen.append((epoch, accuracy))
        return f"below {self.bar}" if accuracy < self.bar else None


def test_a_stopped_trial_says_when_and_why_and_leaves_no_file(context: TrialContext, tmp_path: Path) -> None:
    stopper, epochs = Strict(2, 3, bar=2.0), []
    outcome = run_trial(
        SMALL,
        training(context, epochs=4, batch_size=60),
        seed=0,
        model=tmp_path / "model.onnx",
        on_epoch=lambda done, planned: epochs.append((done, planned)),
        stopper=stopper,
    )
    assert epochs == [(1, 4), (2, 4)]
    assert (outcome.state, outcome.reason, outcome.epochs, outcome.planned_epochs) == ("stopped", "below 2.0", 2, 4)
    assert outcome.epochs_saved == 2 and outcome.stopped_at == 2
    assert [epoch for epoch, _ in outcome.curve] == [1, 2] and outcome.curve[-1] == stopper.seen[-1]
    assert all(0 <= accuracy <= 1 for _, accuracy in outcome.curve)
    assert (
        outcome.measured is not None
        and "accuracy" not in outcome.measured.figures
        and stopper.begun == (outcome.measured, 4)
    )
    assert list(tmp_path.iterdir()) == []
    assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))) == outcome


def test_a_trial_in_the_shadow_is_trained_to_the_same_bytes(context: TrialContext, tmp_path: Path) -> None:
    patient = training(context, epochs=3, batch_size=60)
    alone, watched = tmp_path / "alone.onnx", tmp_path / "watched.onnx"
    unseen = run_trial(SMALL, patient, seed=0, model=alone)
    assert [epoch for epoch, _ in unseen.curve] == [1, 2, 3]
    outcome = run_trial(SMALL, patient, seed=0, model=watched, stopper=Strict(1, 2, 3, bar=2.0), shadow=True)
    assert (outcome.state, outcome.stopped_at, outcome.epochs_saved) == ("trained", 1, 0)
    assert [epoch for epoch, _ in outcome.curve] == [1, 2, 3]
    assert watched.read_bytes() == alone.read_bytes()
    assert outcome.measured is not None and outcome.measured.figures["accuracy"] == pytest.approx(
        outcome.curve[-1][1], abs=0.01
    )


def test_an_outcome_of_before_early_stopping_is_read() -> None:
    old = Outcome(candidate=SMALL, seed=0, state="failed", reason="why").to_dict()
    for name in ("planned_epochs", "curve", "spoke_at"):
        del old[name]
    assert Outcome.from_dict(old).curve == ()
