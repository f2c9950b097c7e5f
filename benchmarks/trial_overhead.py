"""Measure the seconds of a trial outside its training, by stage.

    python benchmarks/trial_overhead.py [--trials 60]

The script runs a study of random networks of about 100,000 parameters on digits, one training step each, in a temporary
folder. Only trials of a new structure count, so that no latency is cached; the first three are warm-up. `study` is
everything between two trials: ask, tell, records, front.csv, and front.json and front.png if the front changed.
`processor` is the processor time of a whole trial, with its training step. Output: median and largest over the trials.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.runs.front import Front
from nas_compress.runs.records import Record
from nas_compress.search.reporter import Silence

STUDY = """
name = "overhead"
space = "space.py"
seed = 1
[data]
name = "digits"
train_samples = 256
[teacher]
widths = [16, 32, 64]
epochs = 1
[training]
epochs = 1
batch_size = 256
[search]
sampler = "random"
"""

SPACE = '''
"""Networks of about 100,000 parameters."""

from nas_compress.values.candidate import Candidate

MULTIPLIERS = {"resnet": [0.5, 0.625], "mobilenet": [1.0, 1.25]}
BITS = {"float32": (32, 32), "weights8": (8, 32), "int8": (8, 8)}


def suggest(trial):
    family = trial.suggest_categorical("family", list(MULTIPLIERS))
    weight_bits, activation_bits = BITS[trial.suggest_categorical("precision", list(BITS))]
    return Candidate(
        family=family,
        depths=tuple(trial.suggest_int(f"depth_{stage}", 1, 2) for stage in range(3)),
        width_multiplier=trial.suggest_categorical(f"{family}_multiplier", MULTIPLIERS[family]),
        weight_bits=weight_bits,
        activation_bits=activation_bits,
    )
'''

WARM_UP = 3
TRAINING = ("training", "teacher answers")


class Overheads(Silence):
    """A reporter that records the seconds of each stage for trials of new structures, and of the study."""

    def __init__(self) -> None:
        self.taken: dict[str, list[dict[str, float]]] = defaultdict(list)
        self._seen: set[object] = set()
        self._last: float | None = None
        self._last_processor = 0.0
        self._members: list[int | str] = []
        self.processor: dict[str, list[float]] = defaultdict(list)

    def trial(self, record: Record, front: Front, finished: int, total: int) -> None:
        """Record one trial."""
        now, outcome = time.perf_counter(), record.outcome
        structure = (
            outcome.architecture,
            outcome.candidate.precision.weight_bits,
            outcome.candidate.precision.activation_bits,
        )
        members = [point.trial for point in front.members]
        if self._last is not None and finished > WARM_UP and structure not in self._seen and outcome.state == "trained":
            stages = {name: seconds for name, seconds in outcome.seconds.items() if name not in TRAINING}
            study = now - self._last - sum(outcome.seconds.values())
            stages["study, front changed" if members != self._members else "study"] = study
            bits = f"{outcome.candidate.precision.weight_bits}/{outcome.candidate.precision.activation_bits}"
            self.taken[bits].append(stages)
            self.processor[bits].append(time.process_time() - self._last_processor)
        self._seen.add(structure)
        self._members, self._last, self._last_processor = members, time.perf_counter(), time.process_time()


def table(trials: list[dict[str, float]], processor: list[float]) -> str:
    """Print the median and largest of each stage, of the sum of a trial, and of the processor time."""
    names = list(dict.fromkeys(name for stages in trials for name in stages))
    columns = {name: [stages[name] for stages in trials if name in stages] for name in names}
    columns["sum"] = [sum(stages.values()) for stages in trials]
    columns["processor"] = processor
    return "\n".join(
        f"    {name:22} {statistics.median(seconds):7.3f} {max(seconds):7.3f}   n = {len(seconds)}"
        for name, seconds in columns.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=60)
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["NAS_COMPRESS_CACHE"] = str(folder / "cache")
        (folder / "study.toml").write_text(STUDY, encoding="utf-8")
        (folder / "space.py").write_text(SPACE, encoding="utf-8")
        # imported late, so that the cache is found where the line above says
        from nas_compress.search.run import run_study

        overheads = Overheads()
        run_study(folder / "study.toml", out=folder / "run", trials=trials, reporter=overheads)
    print(f"{describe_machine()}; seconds, median and largest")
    for bits, taken in sorted(overheads.taken.items()):
        print(f"weights/activations {bits} bits\n{table(taken, overheads.processor[bits])}")
    everything = [stages for taken in overheads.taken.values() for stages in taken]
    processor = [seconds for taken in overheads.processor.values() for seconds in taken]
    print(f"all\n{table(everything, processor)}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # on Linux in kB
    print(f"peak resident memory after {trials} trials: {peak:.0f} MB")


if __name__ == "__main__":
    main()
