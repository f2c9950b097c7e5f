"""The search itself: ask, try, tell, until the total of trials is reached."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from nas_compress.measurement.pipeline import calibration_samples
from nas_compress.runs.speed_notes import speed_notes
from nas_compress.search.float32_comparison import compare_with_float32, uncompared_members
from nas_compress.search.progress import Tally
from nas_compress.search.remeasure import amend, measure_again, noisy_members
from nas_compress.search.stopping_rule import study_pruner
from nas_compress.search.trials import Trials
from nas_compress.search.workers.pool import Crew, Job
from nas_compress.search.workers.scheduler import Shift
from nas_compress.trial.run import run_trial
from nas_compress.values.outcome import Outcome


@dataclass(kw_only=True, eq=False)
class Search:
    """A study while it runs."""

    trials: Trials

    @property
    def tally(self) -> Tally:
        """What is finished of it."""
        return self.trials.tally

    def run(self, crew: Crew | None = None) -> None:
        """Try candidates until the total is reached; then measure the front's noisy latencies again.

        A crew tries several at once, which hold still while one of them measures.
        """
        self.trials.study.pruner = study_pruner(self.tally.parts.spec)
        self.tally.write(self.tally.front)
        if crew is None:
            self._work()
        else:
            Shift(trials=self.trials, crew=crew).work()
        shutil.rmtree(self.tally.folder.checkpoints, ignore_errors=True)
        self._measure_again()
        self._compare()
        self.tally.close()

    def _work(self) -> None:
        while (places := self.tally.places()) is not None:
            if places <= 0:
                self.tally.wait()
            else:
                self._next()

    def _next(self) -> None:
        trial, candidate = self.trials.propose(0)
        try:
            if self.tally.is_surplus(trial.number, 0):
                self.trials.give_back(trial)
                return
            answer = self.trials.answer(trial, candidate)
            if answer is None:
                answer = self.trials.tried(trial, self._try(trial.number, self.trials.job(trial, candidate)))
            self.trials.settle(trial, answer)
        except BaseException:
            self.trials.give_back(trial)
            raise

    def _try(self, trial: int, job: Job) -> Outcome:
        context = self.trials.context
        if context is None:
            raise RuntimeError("the context is made before the first trial")
        spec, reporter = self.tally.parts.spec, self.tally.reporter
        reporter.stage(f"trial {trial}", 0, spec.training.epochs)
        return run_trial(
            job.task.candidate,
            context,
            seed=spec.seed,
            model=job.task.model,
            checkpoint=job.task.checkpoint,
            on_epoch=lambda done, count: reporter.stage(f"trial {trial}", done, count),
            stopper=job.stopper,
            shadow=spec.search.stop == "shadow",
        )

    def _measure_again(self) -> None:
        """Measure latencies of the front that were taken in slow moments, until it has no untried ones."""
        tally, tried = self.tally, set[int]()
        while noisy := [r for r in noisy_members(tally.records, tally.members) if r.trial not in tried]:
            tally.reporter.say(f"measuring latencies of the front again that were taken in slow moments: {len(noisy)}")
            tried.update(record.trial for record in noisy)
            steady = measure_again(
                tally.folder, noisy, tally.parts.target, tally.parts.spec.budget_list, sizes=tally.parts.sizes
            )
            tally.records = amend(tally.folder, tally.records, steady)

    def _compare(self) -> None:
        """Time the float32 form of the front's members, and say which of them are slower."""
        tally, parts = self.tally, self.tally.parts
        compared = compare_with_float32(
            uncompared_members(tally.records, tally.members),
            build=parts.build,
            signature=parts.dataset.task.signature,
            calibration=calibration_samples(parts.dataset.train),
            target=parts.target,
        )
        tally.records = amend(tally.folder, tally.records, compared)
        for note, trials in speed_notes(tally.records, compared).items():
            tally.reporter.say(f"trial {', '.join(map(str, trials))}: {note}")
