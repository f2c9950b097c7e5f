"""Trials with early exits: joint training, patience, encoders of tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from made_contexts import words_context
from nas_compress.devices.onnx_session import open_session
from nas_compress.models.exits.network import EarlyExits
from nas_compress.models.exits.thresholds import choose_patience
from nas_compress.models.features import ObservableNetwork
from nas_compress.tasks.classification import Classification
from nas_compress.training.exits_objective import ExitsObjective, one_vs_rest_hinge
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate, Exits
from processors import skip_if_saturated

JOINT = Candidate(
    family="resnet",
    depths=(1, 1, 1),
    width_multiplier=0.5,
    exits=Exits(after=("stage0", "stage1"), training="joint", weights=(0.3, 0.6), accuracy_loss=0.02),
)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    return words_context(tmp_path_factory.mktemp("exits"))


@pytest.mark.slow
def test_joint_training_repeats_its_figures(context: TrialContext, tmp_path: Path) -> None:
    first = run_trial(JOINT, context, seed=0, model=tmp_path / "first.onnx")
    again = run_trial(JOINT, context, seed=0, model=tmp_path / "again.onnx")
    assert first.state == "trained" and first.measured is not None and again.measured is not None, first.reason
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()
    assert first.losses == again.losses
    assert list(first.losses) == ["cross_entropy", "exit0", "exit1"]
    assert first.measured.figure("accuracy") == again.measured.figure("accuracy")
    assert first.measured.exits is not None and again.measured.exits is not None
    assert first.measured.exits.rates == again.measured.exits.rates


class Given:
    """An objective with one term, the sum of the outputs."""

    learners = ()

    def __call__(self, model: ObservableNetwork, batch: dict[str, torch.Tensor], *given: object, **more: object):  # type: ignore[no-untyped-def]
        return {"sum": model.observe(*batch.values()).outputs["logits"].sum()}


@pytest.mark.parametrize(
    ("target", "confidence"), [("labels", "entropy"), ("labels", "hinge"), ("last_exit", "margin")]
)
def test_the_loss_of_an_exit_trains_the_layers_before_it(
    target: str, confidence: str, make_network: Callable[..., ObservableNetwork]
) -> None:
    samples = torch.randint(0, 17, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.manual_seed(0))
    labels = torch.arange(6)
    exits = Exits(after=("layer0",), confidence=confidence, target=target, training="joint", weights=(0.5,))
    network = EarlyExits(make_network("vit", depths=(2,)), exits, sample=samples)
    objective = ExitsObjective(Given(), network.heads, exits, Classification.of_images(shape=(1, 8, 8), classes=10))  # type: ignore[arg-type]
    terms = objective(network.backbone, {"input": samples}, {"label": labels}, view=0, index=labels, progress=0.0)
    early, last = network.answers(samples)
    if target == "last_exit":
        wanted = torch.nn.functional.cross_entropy(early, last.softmax(1))
    elif confidence == "hinge":
        wanted = one_vs_rest_hinge(early, labels)
    else:
        wanted = torch.nn.functional.cross_entropy(early, labels)
    torch.testing.assert_close(terms["exit0"], 0.5 * wanted)
    reached = torch.autograd.grad(terms["exit0"], list(network.backbone.parameters()), allow_unused=True)
    named = dict(zip(dict(network.backbone.named_parameters()), reached, strict=True))
    assert named["layers.0.mlp.outer.weight"] is not None
    assert named["layers.1.mlp.outer.weight"] is None and named["head.linear.weight"] is None
    assert objective.learners == list(network.heads)


def test_mixed_labels_share_the_hinge_loss() -> None:
    scores = torch.tensor([[0.5, -0.5]])
    # class 0: 0.5^2 and 0.5^2; class 1: 1.5^2 and 1.5^2
    assert float(one_vs_rest_hinge(scores, torch.tensor([0]))) == 0.25
    assert float(one_vs_rest_hinge(scores, torch.tensor([1]))) == 2.25
    assert float(one_vs_rest_hinge(scores, torch.tensor([[0.75, 0.25]]))) == 0.75


def test_patience_counts_exits_in_a_row_with_one_answer(make_network: Callable[..., ObservableNetwork]) -> None:
    exits = Exits(after=("stage0", "stage1"), confidence="patience")
    network = EarlyExits(make_network("resnet"), exits, sample=torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    answers = [torch.eye(3)[[0, 1, 2]], torch.eye(3)[[0, 2, 2]], torch.eye(3)[[0, 2, 1]]]
    assert [values.tolist() for values in network.confidences(answers)] == [[1, 1, 1], [2, 1, 2], [3, 2, 1]]


def test_patience_is_one_number_of_exits_chosen_on_validation() -> None:
    agree = [np.array([1, 1, 1], dtype=np.float32), np.array([2, 1, 2], dtype=np.float32)]
    right = [np.array([True, False, True]), np.array([True, True, True]), np.array([True, True, True])]
    free = choose_patience(agree, right, [1.0, 2.0, 3.0], accuracy_loss=0.0)
    assert (free.thresholds, free.accuracy) == ((2.0, 2.0), 1.0)
    assert free.rates == (0.0, 2 / 3, 1 / 3)
    assert choose_patience(agree, right, [1.0, 2.0, 3.0], accuracy_loss=0.4).thresholds == (1.0, 1.0)


def test_an_encoder_with_patience_learns_ships_and_agrees(words: TrialContext, tmp_path: Path) -> None:
    exits = Exits(after=("layer0", "layer1"), confidence="patience", training="joint", accuracy_loss=0.1)
    candidate = Candidate(family="encoder", depths=(3,), heads=2, weight_bits=8, exits=exits)
    outcome = run_trial(candidate, words, seed=0, model=tmp_path / "model.onnx")
    skip_if_saturated(outcome)
    assert outcome.state == "trained" and outcome.measured is not None, outcome.reason
    measured = outcome.measured
    assert measured.exits is not None
    assert measured.figure("accuracy") > 0.7
    assert list(measured.exits.macs) == sorted(measured.exits.macs)
    session = open_session(tmp_path / "model.onnx")
    assert session.get_inputs()[0].shape == [1, "T"]
    samples, labels = words.dataset.validation.inputs["input"], words.dataset.validation.targets["label"]
    right, taken = 0, []
    for row, label in zip(samples, labels, strict=True):
        answers, exit_ = session.run(["logits", "exit"], {"input": row[row > 0][None].numpy()})
        right += int(answers.argmax() == int(label))
        taken.append(int(exit_[0]))
    assert right / len(samples) == pytest.approx(measured.figure("accuracy"))
    counted = np.bincount(taken, minlength=len(exits.after) + 1) / len(taken)
    np.testing.assert_allclose(counted, measured.exits.rates)
    assert len(set(measured.exits.thresholds)) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"training": "both"}, "a training of exits must be a known name"),
        ({"weights": (0.5,)}, "training='joint' must hold for weights of exits, but got training='frozen'"),
        ({"training": "joint", "weights": (0.5, 0.5)}, r"weights must be one per exit \(1\), but got 2"),
        ({"training": "joint", "weights": (0.0,)}, "0 < weight < inf must hold for each exit, but got"),
    ],
)
def test_the_settings_of_joint_training_are_checked(given: dict[str, object], words: str) -> None:
    with pytest.raises(Exception, match=words):
        Exits(after=("layer0",), **given)  # type: ignore[arg-type]
