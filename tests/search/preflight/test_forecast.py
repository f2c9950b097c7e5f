"""The forecast of a study's time: processor time, workers, and a machine that is busy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nas_compress.config.study_file import read_study
from nas_compress.quantization.weight_quantizers import WeightQuantizer
from nas_compress.search.preflight import forecast as subject
from nas_compress.search.preflight.forecast import BUSY, Forecast, forecast
from nas_compress.search.setup import gather
from nas_compress.training import precision
from running import Command, command_in, own_cache, write_study  # noqa: F401

SPACE_OF_LOSSES = """
from nas_compress.values.candidate import Candidate, Quantization, cross_entropy, distillation

def suggest(trial):
    width = trial.suggest_categorical("width_multiplier", [0.5, 1.0])
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=width, losses=LOSSES)
"""

TAUGHT = "distillation(hard_weight=0.5, soft_weight=0.5, temperature=1.0)"


def _clock(monkeypatch: pytest.MonkeyPatch, *, share: float) -> Callable[[float], None]:
    """Replace both clocks; return the function that spends processor time. share: of the machine for this process."""
    spent = 0.0

    def spend(seconds: float) -> None:
        nonlocal spent
        spent += seconds

    clocks = SimpleNamespace(perf_counter=lambda: spent / share, process_time=lambda: spent)
    monkeypatch.setattr(subject, "time", clocks)
    return spend


@pytest.mark.parametrize(("share", "busy"), [(1.0, False), (0.25, True)])
def test_other_programs_do_not_change_the_forecast(
    share: float, busy: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spend = _clock(monkeypatch, share=share)

    def train(network: torch.nn.Module, batches: int, *more: object) -> int:
        """Take 0.05 s for the training itself, and 0.1 s for each batch."""
        spend(0.05 + 0.1 * batches)
        return batches

    def measure(*given: object) -> object:
        spend(0.4)
        return measured(*given)

    measured = subject.measure_untrained
    monkeypatch.setattr(subject, "_train_batches", train)
    monkeypatch.setattr(subject, "measure_untrained", measure)
    parts = gather(read_study(write_study(tmp_path / "s")))

    def found(workers: int) -> Forecast:
        return forecast(parts, workers=workers)

    one, two = found(1), found(2)
    assert one.is_busy == busy and one.slowdown == pytest.approx(1 / share)
    assert one.teacher_s == pytest.approx(0.05 + 2 * 6 * 0.1), "two epochs of six batches"
    assert one.trial_s == pytest.approx(subject.FIXED_S + 0.4 + 0.05 + 6 * 0.1)
    assert one.study_s == pytest.approx(subject.START_S + one.teacher_s + 3 * one.trial_s)
    assert two.study_s == pytest.approx(subject.START_S + one.teacher_s + 3 * one.trial_s / 2)


def test_networks_are_timed_in_the_format_of_their_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    used: list[object] = []

    def train(network: torch.nn.Module, batches: int, parts: object, data: object, products: object) -> int:
        used.append(products)
        return batches

    monkeypatch.setattr(subject, "_train_batches", train)
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(precision, "BFLOAT16_MACS", 1)
    forecast(gather(read_study(write_study(tmp_path / "s"))), workers=1)
    assert set(used) == {"bfloat16"}
    used.clear()
    monkeypatch.setattr(precision, "BFLOAT16_MACS", 10**12)
    forecast(gather(read_study(write_study(tmp_path / "t"))), workers=1)
    assert set(used) == {"float32"}


def test_the_teachers_answers_to_all_views_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spend = _clock(monkeypatch, share=1.0)

    class Clocked(torch.nn.Module):
        """Answers a sample in 0.001 s, and begins a batch in 0.01 s."""

        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            spend(0.01 + 0.001 * len(samples))
            return torch.zeros(len(samples), 10)

    monkeypatch.setattr(subject, "untrained_teacher", lambda parts: Clocked())

    def found(name: str, shift: int, losses: str) -> Forecast:
        space = SPACE_OF_LOSSES.replace("LOSSES", losses)
        study = write_study(tmp_path / name, ("[data]", f"[data]\nshift = {shift}"), space=space)
        return forecast(gather(read_study(study)))

    assert found("one", 0, TAUGHT).answers_s == pytest.approx(0.01 + 0.001 * 200)
    many = found("many", 2, TAUGHT)
    assert many.answers_s == pytest.approx(25 * (0.01 + 0.001 * 200))
    assert many.study_s == pytest.approx(subject.START_S + many.teacher_s + many.answers_s + 3 * many.trial_s)
    assert found("untaught", 2, "cross_entropy()").answers_s == 0
    monkeypatch.setattr(subject, "MOST_BYTES", 1)  # the teacher runs in every epoch instead
    live = found("live", 2, TAUGHT)
    assert live.answers_s == 0 and live.trial_s > many.trial_s + 0.2


def test_epochs_with_fake_quantization_are_timed_for_themselves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spend = _clock(monkeypatch, share=1.0)

    def train(network: torch.nn.Module, batches: int, *more: object) -> int:
        """Take 0.1 s for a batch, and three times as long with fake quantization."""
        spend((0.3 if any(isinstance(each, WeightQuantizer) for each in network.modules()) else 0.1) * batches)
        return batches

    monkeypatch.setattr(subject, "_train_batches", train)
    precision = 'weight_bits=4, quantization=Quantization(method="lsq"),'
    space = SPACE_OF_LOSSES.replace("losses=LOSSES", precision)
    study = write_study(tmp_path / "s", ("epochs = 1", "epochs = 8"), space=space)
    (sample, *_) = forecast(gather(read_study(study))).samples
    assert sample.trial_s == pytest.approx(subject.FIXED_S + 6 * 6 * 0.1 + 2 * 6 * 0.3, abs=0.05)


def test_look_ups_of_the_sampler_count(tmp_path: Path) -> None:
    plain = forecast(gather(read_study(write_study(tmp_path / "a"))))
    sampler = ('sampler = "random"', 'sampler = "ehvi"')
    looking = forecast(gather(read_study(write_study(tmp_path / "b", sampler))))
    assert looking.study_s - looking.teacher_s - 3 * looking.trial_s > subject.START_S
    assert plain.study_s - plain.teacher_s - 3 * plain.trial_s == pytest.approx(subject.START_S)


def test_check_names_the_workers_and_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command: Command = command_in(monkeypatch, capfd)
    study = write_study(tmp_path / "s")
    assert "for 3 trials by 2 workers (" in command("check", study, "--workers", 2).out
    slow = property(lambda watch: 3.0)
    monkeypatch.setattr(subject._Watch, "slowdown", slow)
    out = command("check", study, "--workers", 1).out
    assert "for 3 trials by 1 worker (" in out and BUSY < 3
    assert "the machine was busy meanwhile: work took 3.0 times its processor time" in out
