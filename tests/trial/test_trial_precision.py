"""The format of the products in the trials of a study: asked for by it, and kept in the record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from nas_compress.training import precision
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.training import float_products
from nas_compress.values.candidate import Candidate, Precision, Quantization
from nas_compress.values.outcome import Outcome


def asking(context: TrialContext, wanted: str, *, epochs: int = 1) -> TrialContext:
    return replace(context, training=context.training.model_copy(update={"precision": wanted, "epochs": epochs}))


def test_the_record_says_that_a_student_trained_in_bfloat16_until_its_rounding(
    context: TrialContext, tmp_path: Path
) -> None:
    """Fake quantization is trained in float32. Torch converts the numbers on a processor without bfloat16."""
    small = Candidate(
        family="resnet",
        depths=(1, 1, 1),
        width_multiplier=0.25,
        precision=Precision(weight_bits=4, quantization=Quantization(method="lsq")),
    )
    outcome = run_trial(small, asking(context, "bfloat16", epochs=2), seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    assert outcome.products == "bfloat16" and outcome.to_dict()["products"] == "bfloat16"
    assert Outcome.from_dict(outcome.to_dict()) == outcome


def test_work_below_the_limit_is_float32_and_leaves_no_word_in_the_record(
    context: TrialContext, tmp_path: Path
) -> None:
    small = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.25)
    outcome = run_trial(small, context, seed=0, model=tmp_path / "model.onnx")
    assert outcome.products == "float32" and "products" not in outcome.to_dict()


def test_a_large_batch_is_enough_work(context: TrialContext) -> None:
    own = precision.has_bfloat16(torch.device("cpu"))
    macs = precision.BFLOAT16_MACS // context.training.batch_size + 1
    assert float_products(context, macs=macs) == ("bfloat16" if own else "float32")
    assert float_products(asking(context, "float32"), macs=macs) == "float32"
