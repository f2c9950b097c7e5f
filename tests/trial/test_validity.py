"""Rules about candidates, asked with a trained teacher when a candidate is proposed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas_compress.data.augment.choose import Drawing, drawn
from nas_compress.errors import RequestError
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.shape import student_architecture
from nas_compress.values.candidate import Candidate, LossTerm, Teaching

SMALL = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5)


def taught(name: str, teaching: Teaching | None = None) -> Candidate:
    losses = (LossTerm(name="cross_entropy"), LossTerm(name=name))
    return replace(SMALL, losses=losses, teaching=teaching or Teaching())


@pytest.mark.parametrize(
    "candidate",
    [
        SMALL,
        replace(SMALL, pruning_ratio=0.5, pruning_criterion="l1", weight_bits=4, activation_bits=8),
        replace(SMALL, zero_pattern="one_shot", zero_fraction=0.5),
        taught("fitnet"),
        taught("kd", Teaching(teacher="mutual", peer_family="mobilenet")),
    ],
    ids=["plain", "pruned and quantized", "sparse", "features", "peers of another family"],
)
def test_an_accepted_candidate_has_the_shape_of_its_trial(candidate: Candidate, context: TrialContext) -> None:
    rules = candidate_rules(context, seed=0)
    assert rules.require(candidate).architecture == student_architecture(candidate, context, seed=0)


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        (replace(SMALL, depths=(1, 1)), r"depths must have one entry per stage of resnet \(3\)"),
        (replace(SMALL, init="inherit", depths=(9, 1, 1)), "init='inherit' needs a student of the teacher's family"),
        (replace(SMALL, init="inherit", width_multiplier=4.0), "init='inherit' needs at most the teacher's"),
        (replace(SMALL, kept_blocks="last", family="mobilenet"), "kept_blocks='last' needs a student of the teacher's"),
        (taught("kd", Teaching(teacher="mutual", peer_depths=(1,))), "a peer in mutual learning: depths must have"),
        (replace(SMALL, teaching=Teaching(annealing=True)), "teaching needs a term on the teacher"),
    ],
)
def test_a_candidate_that_cannot_be_tried_is_refused(candidate: Candidate, message: str, context: TrialContext) -> None:
    with pytest.raises(RequestError, match=message):
        candidate_rules(context, seed=0).require(candidate)


def test_losses_on_pairs_need_larger_batches(context: TrialContext) -> None:
    alone = replace(context, training=context.training.model_copy(update={"batch_size": 1}))
    candidate_rules(alone, seed=0).require(taught("kd"))
    with pytest.raises(RequestError, match=r"training.batch_size >= 2 must hold for loss 'dist'.*, but got 1"):
        candidate_rules(alone, seed=0).require(taught("dist"))


def test_losses_on_one_class_are_refused_for_mixed_samples(context: TrialContext) -> None:
    augmentation = drawn(context.dataset.augmentation, Drawing(mixup=0.2), task=context.dataset.task, seed=0)
    mixing = candidate_rules(replace(context, dataset=replace(context.dataset, augmentation=augmentation)), seed=0)
    mixing.require(taught("kd"))
    with pytest.raises(RequestError, match=r"loss 'dkd' needs one class for each sample, but data\.mixup"):
        mixing.require(taught("dkd"))
