"""Exits of one trained network against networks without exits, on digits, Fashion-MNIST or news.

    python studies/early-exit/compare.py --data fashion-mnist --seed 0 --out /tmp/early-exit    # and seeds 1 and 2
    python studies/early-exit/compare.py --data fashion-mnist --table --out /tmp/early-exit

A seed trains a large network and smaller ones (`settings.py`). Exits are fitted to the frozen large network with
cross-entropy, hinge loss or the answers of its end, and to one trained jointly with its exits. The validation split
chooses the thresholds for each stated loss, and accuracy is that on the test split. Latencies are those of the files
over 256 validation samples, one by one; networks without exits are timed on the same samples. Weights are kept below
--out. `--table` writes a CSV file and a picture of the means into the study (`summary.py`), and prints their table.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from settings import FITS, SETTINGS, Fit, Setting
from summary import summarise, write_rows
from torch import nn

from nas_compress.config.schema import StudySpec
from nas_compress.config.study_file import StudyFile
from nas_compress.data.dataset import Split
from nas_compress.devices.onnx_session import read_content, read_model
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.export.nested_exits import with_thresholds
from nas_compress.export.onnx_file import export_onnx
from nas_compress.measurement.exit_use import LOSSES, exit_rates
from nas_compress.measurement.file_latency import in_figures, measure_latency, stream_of
from nas_compress.measurement.onnx_macs import count_exit_macs
from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.measurement.predictions import measure_metrics
from nas_compress.models.exits.fitting import fit_exits_
from nas_compress.models.exits.network import EarlyExits, exit_signature
from nas_compress.models.exits.passes import exit_answers
from nas_compress.models.exits.thresholds import choose_thresholds
from nas_compress.models.macs import count_macs
from nas_compress.search.setup import comparison_context
from nas_compress.search.study_data import study_dataset
from nas_compress.tasks.batch import one_sample, timed_sizes, to_arrays, to_rows
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.shape import new_student
from nas_compress.trial.train_student import teach
from nas_compress.values.candidate import Exits

TIMED_S = 1.0
"""Longest timing of a file on a busy machine."""


@dataclass(kw_only=True, eq=False)
class Seed:
    """One seed: its context, and the rows so far. out: folder of weights and files."""

    number: int
    out: Path
    setting: Setting
    context: TrialContext
    test: Split
    rows: list[dict[str, object]] = field(default_factory=list)

    def keep(self, **row: object) -> None:
        """Add a row and write all of them."""
        self.rows.append({"seed": self.number, **row})
        print(self.rows[-1], flush=True)
        write_rows(self.out / f"seed-{self.number}.csv", self.rows)

    def network(self, name: str, *, joint: bool = False) -> nn.Module:
        """Return a trained network, from its weights if they are there. joint: it learns together with its exits."""
        exits = Exits(after=self.setting.places, training="joint") if joint else None
        candidate = replace(self.setting.networks[name], exits=exits)
        checked = candidate_rules(self.context, seed=self.number).require(candidate)
        student = new_student(candidate, checked.architecture, self.context.teacher, seed=self.number)
        words = "-".join(name.replace(",", "").replace("/", " ").split()) + "-joint" * joint
        file, epochs = self.out / f"{words}-{self.number}.pt", self.setting.training.epochs
        if not file.is_file():
            teach(candidate, [student], self.context, layer_bits={}, epochs=epochs, seed=self.number, watch=Stopwatch())
            torch.save(student.cpu().state_dict(), file)
        student.load_state_dict(torch.load(file))
        return student.cpu().eval()

    def timed(self, file: Path) -> dict[str, object]:
        """Return the latencies of a file over the samples."""
        validation, device = self.context.dataset.validation, self.context.target
        samples = stream_of(validation.inputs, validation.tokens)
        found = device.stream(file, samples, patient=True) if isinstance(device, OnnxruntimeCpu) else None
        if found is None:
            raise TypeError("the device must time samples")
        mean, middle, tail = in_figures(found.each_ms)
        return {"mean_us": 1e3 * mean, "p50_us": 1e3 * middle, "p95_us": 1e3 * tail, "noisy": found.noisy}


def main() -> None:
    """Run one seed, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(SETTINGS), required=True)
    parser.add_argument("--seed", type=int, action="append", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    out = given.out / given.data
    out.mkdir(parents=True, exist_ok=True)
    for seed in given.seed:
        run(seed, SETTINGS[given.data], out)
    if given.table:
        summarise(given.data, out)


def run(seed: int, setting: Setting, out: Path) -> None:
    """Train and measure one seed."""
    torch.set_num_threads(1)
    spec = StudySpec(name="early-exit", space="early_exit", data=setting.data, teacher=setting.teacher)
    dataset = study_dataset(StudyFile(spec=spec, folder=out, label="early-exit"))
    device = OnnxruntimeCpu(LatencyMeter(time_limit_s=TIMED_S))
    context = comparison_context(dataset, spec.teacher, setting.training, folder=out, target=device)
    test = dataset.test.reveal(purpose="studies/early-exit")
    one = Seed(number=seed, out=out, setting=setting, context=context, test=test)
    task, file = dataset.task, out / f"network-{seed}.onnx"
    for name in setting.networks:
        network = one.network(name)
        export_onnx(network, task.signature, file)
        found = [
            measure_metrics(file, task, inputs=to_rows(split.inputs), targets=to_arrays(split.targets))["accuracy"]
            for split in (dataset.validation, one.test)
        ]
        macs = count_macs(network, one_sample(dataset.validation.inputs, task.signature.inputs))
        one.keep(network=name, validation=found[0], test=found[1], **one.timed(file), macs=macs)
    for name in setting.fits:
        fit = FITS[name]
        large = one.network(setting.large, joint=fit.joint)
        exits = Exits(after=setting.places, confidence=fit.confidences[0], target=fit.target)
        network = EarlyExits(large, exits, sample=dataset.validation.inputs["input"][:2]).eval()
        labels, padded = task.labels(dataset.train.targets), bool(dataset.train.tokens)
        fit_exits_(network, large, dataset.train.inputs["input"], labels, padded=padded)
        measure_exits(one, network, name, fit)


def measure_exits(one: Seed, network: EarlyExits, name: str, fit: Fit) -> None:
    """Add a row for each confidence and each stated loss."""
    dataset, file = one.context.dataset, one.out / f"exits-{one.number}.onnx"
    task, validation = dataset.task, dataset.validation
    splits = {
        part: (
            exit_answers(network, split.inputs["input"], padded=bool(split.tokens)),
            task.labels(split.targets).numpy(),
        )
        for part, split in (("validation", validation), ("test", one.test))
    }
    for confidence in fit.confidences:
        network.exits = replace(network.exits, confidence=confidence)
        export_onnx(network, exit_signature(task.signature), file)
        specs, timed = task.signature.inputs, confidence == fit.confidences[0]
        macs = count_exit_macs(read_content(file), to_arrays(one_sample(validation.inputs, specs)))
        costs: dict[str, object] = {}
        exits_ms: tuple[float, ...] = ()
        if timed:
            sizes = timed_sizes(validation.inputs, specs)
            exits_ms = measure_latency(file, one.context.target, sizes=sizes, patient=True).exits_ms  # type: ignore[attr-defined]
            costs = {"exits_us": " ".join(f"{1e3 * each:.1f}" for each in exits_ms)}
        sure, right = {}, {}
        for part, (answers, labels) in splits.items():
            sure[part] = [each.numpy() for each in network.confidences(answers[:-1])]
            right[part] = [each.numpy().argmax(axis=1) == labels for each in answers]
        for loss in LOSSES:
            chosen = choose_thresholds(sure["validation"], right["validation"], macs, accuracy_loss=loss)
            stops = [each >= limit for each, limit in zip(sure["test"], chosen.thresholds, strict=True)]
            taken = np.argmax([*stops, np.ones(len(one.test), dtype=bool)], axis=0)
            hits = np.array(right["test"])[taken, np.arange(len(one.test))]
            if timed:
                point = one.out / f"point-{one.number}.onnx"
                point.write_bytes(with_thresholds(read_model(file), chosen.thresholds).SerializeToString())
                costs |= {**one.timed(point), "forecast_us": 1e3 * float(np.dot(exits_ms, chosen.rates))}
            one.keep(
                network=one.setting.large,
                exits=name,
                confidence=confidence,
                may_lose=loss,
                validation=chosen.accuracy,
                test=float(hits.mean()),
                **costs,
                macs=float(np.dot(macs, chosen.rates)),
                rates=" ".join(f"{rate:.3f}" for rate in exit_rates(taken, len(macs))),
                exit_accuracies=" ".join(f"{each.mean():.4f}" for each in right["test"]),
            )


if __name__ == "__main__":
    main()
