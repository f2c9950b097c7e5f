"""Follow a run in TensorBoard. Needs `pip install tensorboard`.

python docs/examples/tensorboard_reporter.py STUDY [TRIALS]
tensorboard --logdir runs/tensorboard
"""

import sys
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from nas_compress import run_study


class TensorBoard:
    """A reporter that writes the figures of each trial, the front and the lines of the log."""

    def __init__(self, folder):
        self.writer = SummaryWriter(str(folder))
        self.lines = 0

    def say(self, text):
        """A line of the log."""
        self.writer.add_text("log", text, self.lines)
        self.lines += 1

    def begin(self, finished, total):
        """The study was opened."""

    def stage(self, name, done, count):
        """Progress of the teacher, of its answers, or of a trial."""

    def trial(self, record, front, finished, total):
        """A trial was finished."""
        figures = {} if record.outcome.measured is None else record.outcome.measured.figures
        for name, value in figures.items():
            self.writer.add_scalar(f"trial/{name}", value, record.trial)
        self.writer.add_scalar("front/members", len(front.members), record.trial)
        self.writer.flush()


study_file = sys.argv[1] if len(sys.argv) > 1 else "digits"
trials = int(sys.argv[2]) if len(sys.argv) > 2 else None
out = Path("runs") / "with-tensorboard"
run_study(study_file, trials=trials, out=out, reporter=TensorBoard(Path("runs") / "tensorboard"))
