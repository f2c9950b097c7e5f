"""Two stages of a transformer, first layers and then answers, as a schedule of any terms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nas_compress.config.schema import TrainingSection
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate, LossTerm

LAYERS = ("embedding", "hidden_state", "attention_matrix")


def test_a_transformer_learns_layers_first_and_answers_last(vit_context: TrialContext, tmp_path: Path) -> None:
    first = tuple(LossTerm(name=name, settings={"end": 0.5}) for name in LAYERS)
    candidate = Candidate(
        family="vit", depths=(1,), losses=(*first, LossTerm(name="kd", settings={"begin": 0.5, "temperature": 1.0}))
    )
    context = replace(vit_context, training=TrainingSection(epochs=2, batch_size=36, learning_rate=5e-3))
    outcome = run_trial(candidate, context, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    # the figures of the last epoch, which is the second stage
    assert [outcome.losses[name] for name in LAYERS] == [0.0, 0.0, 0.0] and outcome.losses["kd"] > 0
