"""Common trial of all contenders: the same data, teacher and training, separate latency caches."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from nas_compress.callbacks import no_progress
from nas_compress.config.study_file import StudyFile, read_study
from nas_compress.files import cache_folder
from nas_compress.runs.folder import RunFolder
from nas_compress.search.setup import StudyParts, baseline, find_teacher, gather, make_context
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Measured

Costs = tuple[float, float, float]
"""Costs minimised by a peer: error, log10 of milliseconds, log10 of bytes."""

Report = Callable[[int, Costs], bool]
"""Function of (finished epochs, costs so far); True ends the training."""


def contest_file(study: str | Path, seed: int) -> StudyFile:
    """Return the study without its budgets, with a search seed."""
    file = read_study(study)
    return replace(file, spec=file.spec.model_copy(update={"budgets": {}, "seed": seed}))


def contest_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of the common arguments."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--study", default="studies/digits")
    parser.add_argument("--seconds", type=float, default=240.0, help="of processor time, on one thread")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="a new folder for this search")
    return parser


def own_cache(out: Path) -> None:
    """Share teachers and data, but not latencies, so that no search profits from another."""
    shared, own = cache_folder().absolute(), out.absolute() / "cache"
    own.mkdir(parents=True, exist_ok=True)
    shared.mkdir(parents=True, exist_ok=True)
    (shared / "teachers").mkdir(exist_ok=True)
    for entry in shared.iterdir():
        if entry.name != "latency" and not (own / entry.name).exists():
            (own / entry.name).symlink_to(entry)
    os.environ["NAS_COMPRESS_CACHE"] = str(own)


@dataclass(kw_only=True, eq=False)
class Reporter:
    """A stopper that reports the figures after each epoch except the last, whose file is not written yet."""

    report: Report
    _costs: tuple[float, float] = field(default=(math.nan, math.nan), init=False)
    _planned: int = field(default=0, init=False)

    def begin(self, cost: Measured, planned: int) -> None:
        """Store the figures of the untrained file, which do not change."""
        self._costs, self._planned = _costs(cost), planned

    def wants(self, epoch: int) -> bool:
        """Return True for each epoch except the last."""
        return epoch < self._planned

    def stop_reason(self, epoch: int, accuracy: float) -> str | None:
        """Ask the peer."""
        return "the peer stopped it" if self.report(epoch, (1 - accuracy, *self._costs)) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Workplace:
    """The context of one contender and the parts of the study."""

    parts: StudyParts
    context: TrialContext

    @property
    def epochs(self) -> int:
        """Number of epochs of a full training."""
        return self.parts.spec.training.epochs

    def try_(self, candidate: Candidate, model: Path, report: Report) -> Costs | None:
        """Run a trial and return its costs, or None if the peer stopped it.

        Raise RuntimeError if the candidate fails.
        """
        outcome = run_trial(
            candidate, self.context, seed=self.parts.spec.seed, model=model, stopper=Reporter(report=report)
        )
        if outcome.state == "stopped":
            return None
        measured = outcome.measured
        if outcome.state != "trained" or measured is None:
            raise RuntimeError(outcome.reason)
        error, (latency, size) = 1 - measured.figure("accuracy"), _costs(measured)
        return error, latency, size


def _costs(measured: Measured) -> tuple[float, float]:
    return math.log10(measured.figure("latency_ms")), math.log10(measured.figure("size_bytes"))


def open_workplace(study: str | Path, seed: int) -> Workplace:
    """Open the context of a search; train the teacher and compute its answers if they are missing."""
    torch.set_num_threads(1)
    parts = gather(contest_file(study, seed))
    teacher = find_teacher(parts, no_progress)
    return Workplace(parts=parts, context=make_context(parts, teacher))


def warmed(place: Workplace, out: Path) -> Workplace:
    """Open the context and prepare it: the teacher's answers, the machine's fast level."""
    _ = place.context.teacher.answers
    baseline(RunFolder(root=out / "warm"), place.context.teacher, place.parts.dataset, place.context.target)
    return place
