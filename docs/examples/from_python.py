"""Run a study from Python, follow its progress, read its front, and open its storage with Optuna.

python docs/examples/from_python.py STUDY [TRIALS]
"""

import sys
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from nas_compress import run_study


class Watcher:
    """A reporter; its methods receive the progress of a run."""

    def say(self, text):
        """A line of the log."""
        print("said:", text)

    def begin(self, finished, total):
        """The study was opened."""

    def stage(self, name, done, count):
        """Progress of the teacher, of its answers, or of a trial."""

    def trial(self, record, front, finished, total):
        """A trial was finished."""
        print(f"trial {record.trial}: {record.outcome.state}, front of {len(front.members)}, {finished}/{total}")


study_file = sys.argv[1] if len(sys.argv) > 1 else "digits"
trials = int(sys.argv[2]) if len(sys.argv) > 2 else None
front = run_study(study_file, trials=trials, out=Path("runs") / "from-python", reporter=Watcher())

table = front.to_dataframe()
print(table[["trial", "accuracy", "latency_ms", "size_bytes"]])
print("the balanced choice: trial", front.knee.trial)

storage = JournalStorage(JournalFileBackend(str(Path("runs/from-python/study.journal").absolute())))
(name,) = optuna.get_all_study_names(storage)
study = optuna.load_study(study_name=name, storage=storage)
print("Optuna's own front:", sorted(trial.number for trial in study.best_trials))
print(study.trials_dataframe().filter(like="values_"))
