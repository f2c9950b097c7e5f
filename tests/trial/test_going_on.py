"""An interrupted trial resumes and gives the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate, Exits, LossTerm, Quantization, Teaching, distillation
from nas_compress.values.outcome import Measured

SMALL = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5)
KD = distillation(hard_weight=0.2, soft_weight=0.8, temperature=2.0)
CANDIDATES = {
    "adapters": replace(SMALL, losses=(*KD, LossTerm(name="fitnet", weight=0.1))),
    "zeros and rounding": replace(
        SMALL,
        zero_pattern="targeted_weight",
        zero_fraction=0.5,
        weight_bits=4,
        activation_bits=8,
        quantization=Quantization(method="lsq"),
    ),
    "generations": replace(SMALL, losses=KD, teaching=Teaching(teacher="born_again", generations=2)),
    "joint exits": replace(
        SMALL,
        losses=KD,
        weight_bits=8,
        activation_bits=8,
        quantization=Quantization(method="lsq"),
        exits=Exits(after=("stage0",), training="joint", target="last_exit"),
    ),
    "peers": replace(SMALL, losses=KD, teaching=Teaching(teacher="mutual", peers=1)),
}
QUICK = ("zeros and rounding", "joint exits")
EPOCHS = 4


class Cut(BaseException):
    """An exception that no code of a trial catches, like a signal."""


class Looker:
    """A stopper that wants every epoch and never stops."""

    def __init__(self) -> None:
        self.told: list[tuple[int, float]] = []

    def begin(self, cost: Measured, planned: int) -> None: ...

    def wants(self, epoch: int) -> bool:
        return True

    def stop_reason(self, epoch: int, accuracy: float) -> None:
        self.told.append((epoch, accuracy))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in CANDIDATES]
)
def test_a_cut_training_goes_on_to_the_same_bytes(
    name: str, context: TrialContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas_compress.training.checkpoint.COST", float("inf"))  # every epoch is written
    candidate = CANDIDATES[name]
    context = replace(context, training=context.training.model_copy(update={"epochs": EPOCHS, "batch_size": 100}))
    whole = run_trial(candidate, context, seed=0, model=tmp_path / "whole.onnx", stopper=Looker())
    state, seen = tmp_path / "states" / "trial.pt", list[int]()
    cuts = [2, 4, 6] if name == "generations" else [2, 4]

    def cut(done: int, planned: int) -> None:
        seen.append(done)
        if done in cuts:
            cuts.remove(done)
            raise Cut

    while True:
        torch.manual_seed(len(seen))  # what a new process has in its generator must not matter
        looker = Looker()
        try:
            again = run_trial(
                candidate,
                context,
                seed=0,
                model=tmp_path / "cut.onnx",
                checkpoint=state,
                on_epoch=cut,
                stopper=looker,
            )
        except Cut:
            assert not (tmp_path / "cut.onnx").exists() and state.is_file()
        else:
            break
    last = 2 * EPOCHS if name == "generations" else EPOCHS
    assert sorted(set(seen)) == list(range(1, last + 1)) and len(seen) == last + (3 if name == "generations" else 2)
    assert (tmp_path / "cut.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    assert again.curve == whole.curve == tuple(looker.told) and again.losses == whole.losses
    assert {path.name for path in state.parent.iterdir()} == {"trial.pt"}, "nothing half written is left"


def test_a_state_that_does_not_fit_is_trained_afresh(context: TrialContext, tmp_path: Path) -> None:
    state, seen = tmp_path / "trial.pt", list[int]()
    state.write_bytes(b"torn")
    for seed in (1, 0):  # the second one meets the first one's state
        run_trial(
            SMALL,
            context,
            seed=seed,
            model=tmp_path / f"{seed}.onnx",
            checkpoint=state,
            on_epoch=lambda done, planned: seen.append(done),
        )
    assert seen.count(1) == 2
    run_trial(SMALL, context, seed=0, model=tmp_path / "whole.onnx")
    assert (tmp_path / "0.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
