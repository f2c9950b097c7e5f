"""Zero patterns in trials: with trained quantization, and in layers that they do not fit."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from nas_compress.errors import RequestError
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import FAMILIES
from nas_compress.training.objective import LossObjective
from nas_compress.trial.bit_allocation import planned_bits
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.trial.training import fit
from nas_compress.values.candidate import PRUNED, Candidate, Teaching, cross_entropy, distillation
from nas_compress.values.precision import Quantization
from nas_compress.values.pruning import ZERO_PATTERNS
from nas_compress.values.signature import Signature

PATTERNS = [pattern for pattern in ZERO_PATTERNS if pattern != "none"]
IMAGES = Signature.of_images((1, 8, 8), classes=10)
FAMILY_NAMES = [*(name for name, family in FAMILIES.items() if family.fits(IMAGES)), PRUNED]


def candidate(family: str, pattern: str) -> Candidate:
    depths = () if family == PRUNED else (1,) * len(FAMILIES[family].base_depths)
    return Candidate(family=family, depths=depths, width_multiplier=0.5, zero_pattern=pattern, zero_fraction=0.5)


@pytest.mark.parametrize(("pattern", "family"), list(zip(PATTERNS, itertools.cycle(FAMILY_NAMES), strict=False)))
def test_every_pattern_ships_in_a_codebook(pattern: str, family: str, context: TrialContext, tmp_path: Path) -> None:
    # the modules of users' own have it after training only; the context's one epoch is all under rounding
    method = "calibrate" if family == PRUNED or pattern == "targeted_unit" else "lsq"
    quantization = Quantization(method=method, weight_format="codebook")
    bits = 1 if pattern == "gradual" else 4  # of two shared values one is 0
    sparse = replace(candidate(family, pattern), weight_bits=bits, quantization=quantization)
    outcome = run_trial(sparse, context, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    assert outcome.measured is not None and (outcome.measured.agreement or 0) >= 0.999
    assert (outcome.measured.zero_fraction or 0) > 0.25


@pytest.mark.parametrize("pattern", ["gradual", "targeted_weight"])
def test_zeros_stay_under_trained_quantization(pattern: str, context: TrialContext, tmp_path: Path) -> None:
    longer = replace(context, training=context.training.model_copy(update={"epochs": 2, "batch_size": 60}))
    sparse = replace(
        candidate("resnet", pattern), weight_bits=4, activation_bits=32, quantization=Quantization(method="lsq")
    )
    student = new_student(sparse, student_architecture(sparse, context, seed=0), context.teacher, seed=0)
    objective = LossObjective(TrainingLoss(context.dataset.task, cross_entropy()))
    fit(student, objective, sparse, longer, layer_bits=planned_bits(sparse, student, longer), epochs=2, seed=0, macs=1)
    weights = [
        module.weight for module in student.modules() if isinstance(getattr(module, "weight", None), nn.Parameter)
    ]
    matrices = [weight for weight in weights if weight.ndim > 1]
    zeros = sum(int((weight == 0).sum()) for weight in matrices) / sum(weight.numel() for weight in matrices)
    assert zeros == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("scheme", "pattern", "family"),
    [
        ("fixed", "targeted_weight", "mobilenet"),
        pytest.param("joint", "gradual", "resnet", marks=pytest.mark.slow),
        pytest.param("fine_tuned", "targeted_unit", "resnet", marks=pytest.mark.slow),
    ],
)
def test_zeros_come_into_the_codebook_of_an_apprentice(
    scheme: str, pattern: str, family: str, context: TrialContext, tmp_path: Path
) -> None:
    sparse = replace(
        candidate(family, pattern),
        weight_bits=4,
        losses=distillation(hard_weight=0.5, soft_weight=0.5, temperature=1.0),
        teaching=Teaching(teacher="apprentice", scheme=scheme),
        quantization=Quantization(method="lsq", weight_format="codebook"),
    )
    outcome = run_trial(sparse, context, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    assert outcome.measured is not None and outcome.measured.agreement == 1
    assert (outcome.measured.zero_fraction or 0) > 0.45


def test_two_of_four_on_other_widths_is_refused_before_training(context: TrialContext, tmp_path: Path) -> None:
    odd = replace(candidate("resnet", "two_four"), width_multiplier=0.4, round_to=1)
    with pytest.raises(RequestError, match="'two_four' needs inputs in fours, but layer stages"):
        run_trial(
            odd, context, seed=0, model=tmp_path / "model.onnx", on_epoch=lambda *_: pytest.fail("it was trained")
        )
