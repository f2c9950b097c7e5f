"""Runs to report on, made of records without any training, and a browser where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from browsing import browser as browser
from nas_compress.config.schema import BudgetSection, DataSection, StudySpec
from nas_compress.files import digest_of_file
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, write_baseline, write_record
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Measured, Outcome
from timing import save_net

MakeRun = Callable[..., RunFolder]


@pytest.fixture(scope="session")
def finished(finished: Path) -> RunFolder:
    """A run of five trials, some of them over budget; only to be read."""
    return RunFolder(root=finished / "run")


@pytest.fixture(scope="module")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """A run folder with a teacher, as many trained records as asked for, and failures with a reason."""
    network = save_net(tmp_path_factory.mktemp("network") / "model.onnx")

    def make(
        *, trained: int = 0, failed: int = 0, stopped: int = 0, reason: str = "ExportError: no", taught: bool = True
    ) -> RunFolder:
        folder = RunFolder(root=tmp_path_factory.mktemp("made"))
        spec = StudySpec(
            name="made", space="cnn", data=DataSection(name="digits"), trials=trained + failed + stopped + 1,
            budgets={"size_bytes": BudgetSection(at_most=300_000.0)},
        )  # fmt: skip
        folder.start(
            {
                "study": spec.model_dump(mode="json"), "study_folder": ".", "classes": 10,
                "space": {"name": "cnn", "hash": "0123"}, "versions": {"python": "3"}, "machine": {"cpu": "a cpu"},
            }
        )  # fmt: skip
        measured = Measured(
            figures={"accuracy": 0.97, "latency_ms": 2.0, "size_bytes": 900_000, "parameters": 1, "macs": 1},
            latency_spread=0.01,
            latency_noisy=False,
        )
        if taught:
            write_baseline(folder, measured, files={})
        generator = np.random.default_rng(0)
        candidate = Candidate(family="resnet", depths=(1, 1, 1))
        curve = ((1, 0.25), (2, 0.5), (4, 0.75))
        for trial in range(trained + failed + stopped):
            outcome = Outcome(candidate=candidate, seed=0, state="failed", reason=reason)
            if trial >= trained + failed:
                outcome = replace(
                    outcome, state="stopped", reason="a forecast", epochs=4, planned_epochs=9, curve=curve,
                    measured=replace(measured, figures={n: v for n, v in measured.figures.items() if n != "accuracy"}),
                )  # fmt: skip
            if trial < trained:
                accuracy, latency, size = generator.random(3)
                figures = {
                    "accuracy": float(accuracy),
                    "latency_ms": 0.1 + float(latency),
                    "size_bytes": int(4e5 * size) + 9,
                }
                outcome = Outcome(
                    candidate=candidate, seed=0, state="trained", measured=measured.with_figures(figures), curve=curve
                )
                if figures["size_bytes"] > 300_000:
                    outcome = replace(outcome, reason="size_bytes <= 300000 must hold")
            params = {"width": int(generator.integers(1, 9)), "family": "resnet"}
            model = f"trials/{trial}/model.onnx" if outcome.state == "trained" else ""
            write_record(
                folder,
                Record(
                    trial=trial, params=params, outcome=outcome, finished_s=trial, model=model,
                    files={model: digest_of_file(network)} if model else {},
                ),
            )  # fmt: skip
            if model:
                shutil.copy(network, folder.root / model)
        return folder

    return make
