"""Does what is pruned matter, or only the shape? The controls of Liu et al. 2019 (arXiv 1810.05270).

    python benchmarks/rethinking.py studies/digits [--seeds 3] [--ratios 0.3 0.5 0.7]

Takes data, teacher and training from the study file. Each ratio by each criterion is trained three ways: the teacher's
kept weights fine-tuned for the study's epochs (`inherit`), fresh weights for as many (`scratch_e`), and fresh weights
with the teacher's compute (`scratch_b`, at most `training.cap` times the epochs). Prints accuracy on the validation
split, each measured on the exported file: mean and standard deviation over the seeds; the same channels go in every
seed except by `random`. `parameters` are those of the first seed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from nas_compress.candidate import Candidate
from nas_compress.measurement.latency import LatencyMeter
from nas_compress.outcome import Outcome
from nas_compress.spec.study_file import read_study
from nas_compress.study.reporter import Silence
from nas_compress.study.workbench import find_teacher, gather, make_bench
from nas_compress.trial.bench import Bench
from nas_compress.trial.run import run_trial

CRITERIA = ("l1", "bn_scale", "taylor", "random", "uniform")
WAYS = {
    "inherit": ("inherit", "scratch_e"),
    "scratch_e": ("scratch", "scratch_e"),
    "scratch_b": ("scratch", "scratch_b"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    arguments = parser.parse_args()
    parts = gather(read_study(arguments.study))
    teacher = find_teacher(parts, Silence().stage)
    if teacher.family is None:
        parser.error("the teacher must be one of our families")
    bench = make_bench(parts, teacher, LatencyMeter(time_limit_s=0.01, blocks=1))
    print("ratio criterion parameters " + " ".join(f"{way:>16}" for way in WAYS), flush=True)
    for ratio in arguments.ratios:
        for criterion in CRITERIA:
            candidate = Candidate(
                family=teacher.family,
                depths=teacher.depths,
                pruning_ratio=ratio,
                pruning_criterion=criterion,
                round_to=1,
            )
            print(row(candidate, bench, seeds=arguments.seeds), flush=True)


def row(candidate: Candidate, bench: Bench, *, seeds: int) -> str:
    """One line of the table."""
    cells, parameters = [], 0
    for init, budget in WAYS.values():
        outcomes = [trained(replace(candidate, init=init), bench, budget=budget, seed=seed) for seed in range(seeds)]
        parameters = outcomes[0].measured.parameters
        accuracies = [100 * outcome.measured.accuracy for outcome in outcomes]
        spread = statistics.stdev(accuracies) if seeds > 1 else 0.0
        cells.append(f"{statistics.mean(accuracies):8.2f} ± {spread:5.2f}")
    return f"{candidate.pruning_ratio:5.2f} {candidate.pruning_criterion:<9} {parameters:10,} " + " ".join(cells)


def trained(candidate: Candidate, bench: Bench, *, budget: str, seed: int) -> Outcome:
    """The outcome of one trial under a budget; a trial that fails ends the comparison."""
    own = replace(bench, training=bench.training.model_copy(update={"budget": budget}))
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_trial(candidate, own, seed=seed, model=Path(folder) / "model.onnx")
    if outcome.state != "trained":
        raise SystemExit(f"{candidate.pruning_criterion} at {candidate.pruning_ratio}: {outcome.reason}")
    return outcome


if __name__ == "__main__":
    main()
