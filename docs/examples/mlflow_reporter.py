"""Follow a run in MLflow. Needs `pip install mlflow-skinny`, or `mlflow` with its pages.

python docs/examples/mlflow_reporter.py STUDY [TRIALS]
"""

import sys
from pathlib import Path

import mlflow

from nas_compress import run_study


class MLflow:
    """A reporter that logs each trial as a run of an experiment, with its candidate and its figures."""

    def say(self, text):
        """A line of the log."""

    def begin(self, finished, total):
        """The study was opened."""

    def stage(self, name, done, count):
        """Progress of the teacher, of its answers, or of a trial."""

    def trial(self, record, front, finished, total):
        """A trial was finished."""
        outcome = record.outcome
        with mlflow.start_run(run_name=f"trial {record.trial}"):
            mlflow.log_params(outcome.candidate.to_dict())
            mlflow.set_tags({"state": outcome.state, "reason": str(outcome.reason or "")})
            if outcome.measured is not None:
                for name, value in outcome.measured.figures.items():
                    mlflow.log_metric(name.replace("@", " on "), value)
            mlflow.log_metric("front members", len(front.members))


study_file = sys.argv[1] if len(sys.argv) > 1 else "digits"
trials = int(sys.argv[2]) if len(sys.argv) > 2 else None
mlflow.set_experiment(Path(study_file).stem)
run_study(study_file, trials=trials, out=Path("runs") / "with-mlflow", reporter=MLflow())
