"""Several trials at a time: a crew of workers is kept busy until the total is reached."""

from __future__ import annotations

from dataclasses import dataclass, field

import optuna

from nas_compress.search.progress import Tally
from nas_compress.search.trials import Trials
from nas_compress.search.workers.pool import Crew
from nas_compress.values.candidate import Candidate


@dataclass(kw_only=True, eq=False)
class Shift:
    """What a crew tries at the moment, and what waits for its turn or for the outcome of the same candidate."""

    trials: Trials
    crew: Crew
    _running: dict[int, optuna.Trial] = field(default_factory=dict, init=False)
    _waiting: list[tuple[optuna.Trial, Candidate]] = field(default_factory=list, init=False)

    @property
    def tally(self) -> Tally:
        """What is finished of the study."""
        return self.trials.tally

    def work(self) -> None:
        """Try candidates until the total is reached; on any error all that is under way is given up."""
        try:
            while (places := self.tally.places()) is not None:
                self._fill()
                if self._running:
                    job, outcome = self.crew.next_end()
                    trial = self._running[job.task.number]
                    self.trials.settle(trial, self.trials.tried(trial, outcome))
                    del self._running[trial.number]
                elif places <= 0:
                    self.tally.wait()
                self._begin()
        except BaseException:
            self.crew.close()
            for trial in [*self._running.values(), *(trial for trial, _ in self._waiting)]:
                self.trials.give_back(trial)
            raise

    @property
    def _under_way(self) -> int:
        return len(self._running) + len(self._waiting)

    def _fill(self) -> None:
        """Propose candidates as long as a worker is idle and the total leaves room."""
        while self.crew.idle and self._under_way < (self.tally.places() or 0):
            trial, candidate = self.trials.propose(self._under_way)
            if self.tally.is_surplus(trial.number, self._under_way):
                self.trials.give_back(trial)
                break
            self._waiting.append((trial, candidate))
            self._begin()

    def _begin(self) -> None:
        """Answer or begin what waits, and keep what still has to wait."""
        for entry in list(self._waiting):
            trial, candidate = entry
            answer = self.trials.answer(trial, candidate)
            if answer is not None:
                self.trials.settle(trial, answer)
            elif not self.crew.idle or candidate in self.crew.candidates:
                continue
            else:
                self.crew.give(self.trials.job(trial, candidate))
                self._running[trial.number] = trial
            self._waiting.remove(entry)
