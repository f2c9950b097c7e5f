"""Measure the seconds and bytes of a report of many trials, with a real file for each front member.

Run: python benchmarks/report.py [--trials 5000]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from pathlib import Path

import numpy as np

from nas_compress.config.schema import DataSection, StudySpec
from nas_compress.export.onnx_file import export_onnx
from nas_compress.files import digest_of_file
from nas_compress.models.families import build_student
from nas_compress.report.page import write_report
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, write_baseline, write_record
from nas_compress.runs.results import read_front
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Measured, Outcome
from nas_compress.values.signature import Signature
from nets import architecture

PARAMETERS = 13


def made_run(root: Path, trials: int) -> RunFolder:
    """Make a run of random figures, with costs that rise with accuracy, and the files of its members."""
    folder, random = RunFolder(root=root), np.random.default_rng(0)
    spec = StudySpec(name="made", space="cnn", data=DataSection(name="digits"), trials=trials)
    about = {
        "study": spec.model_dump(mode="json"), "study_folder": ".", "classes": 10,
        "space": {"name": "cnn", "hash": "0123"}, "versions": {"python": "3"}, "machine": {"cpu": "a cpu"},
    }  # fmt: skip
    folder.start(about)
    write_baseline(folder, _measured(0.99, 1.0, 1_000_000), files={})
    shape = architecture("resnet", (1, 8, 8), depths=(1, 1, 1), multiplier=0.5)
    export_onnx(build_student(shape), Signature.of_images((1, 8, 8), classes=10), root / "model.onnx")
    digest = digest_of_file(root / "model.onnx")
    candidate, losses = Candidate(family="resnet", depths=(1, 1, 1)), {"kd": 0.4, "cross_entropy": 0.6}
    for trial in range(trials):
        cost = 10 ** random.uniform(-2, 0)
        accuracy = min(1.0, float(np.clip(0.98 + 0.1 * np.log10(cost) - abs(random.normal(0, 0.1)), 0, 1)))
        outcome = Outcome(
            candidate=candidate, seed=0, state="trained", architecture=shape, epochs=14, planned_epochs=14,
            measured=_measured(accuracy, cost * random.uniform(0.5, 1), int(1e6 * cost * random.uniform(0.5, 1))),
            losses=losses, curve=tuple((epoch, accuracy * epoch / 14) for epoch in (3, 6, 9, 12, 14)),
        )  # fmt: skip
        params = {f"parameter_{number}": float(random.random()) for number in range(PARAMETERS)}
        model = f"trials/{trial}/model.onnx"
        write_record(
            folder,
            Record(
                trial=trial, params=params, outcome=outcome, finished_s=trial, model=model, files={model: digest}
            ),
        )  # fmt: skip
    for point in read_front(folder).members:
        (root / point.model).write_bytes((root / "model.onnx").read_bytes())
    return folder


def _measured(accuracy: float, latency_ms: float, size_bytes: int) -> Measured:
    return Measured(
        figures={
            "accuracy": accuracy,
            "latency_ms": latency_ms,
            "size_bytes": size_bytes,
            "parameters": size_bytes,
            "macs": size_bytes * 10,
        },
        latency_spread=0.01,
        latency_noisy=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--profile", action="store_true", help="also say which functions take the time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, out = made_run(Path(place), arguments.trials), Path(place) / "report.html"
        members = len(read_front(folder).members)
        profile = cProfile.Profile()
        started, busy = time.perf_counter(), time.process_time()
        if arguments.profile:
            profile.enable()
        write_report(folder, out)
        profile.disable()
        print(f"{arguments.trials:,} trials, {members} members: {time.perf_counter() - started:.1f} s, of which "
              f"{time.process_time() - busy:.1f} s of processor time; {out.stat().st_size / 1e6:.1f} MB")  # fmt: skip
        if arguments.profile:
            pstats.Stats(profile).sort_stats("cumulative").print_stats(25)


if __name__ == "__main__":
    main()
