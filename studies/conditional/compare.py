"""Train policies that choose residual blocks per sample, with the controls that the result needs.

    python studies/conditional/compare.py --data digits --seeds 0 1 --out /tmp/conditional

1. All blocks are trained, then the policy by REINFORCE with a self-critical baseline, then both together. The reward is
   1 for a right answer, minus a price times the measured time of the kept blocks, as a fraction of that of all blocks.
2. Controls: the decisions shuffled among the samples, the number of distinct patterns, every fixed subset of blocks of
   the same network, and networks of fewer blocks trained from scratch for as many epochs.

Latency is that of each file over real validation samples. Subsets are chosen on the validation split; accuracy is that
of the files on the test split. The table is printed as CSV.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from network import LOGITS, WANTS, Conditional, Shape, write_conditional, write_static
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.data.dataset import Dataset, Split
from nas_compress.data.load_dataset import load_dataset
from nas_compress.devices.onnx_session import open_session
from nas_compress.measurement.predictions import predict
from nas_compress.tasks.batch import Batch, to_arrays
from nas_compress.training.loop import train

CERTAIN = 0.8
"""Share of the policy in the chance of a block; the rest turns its decision round, so that both are tried."""

SHUFFLES = 20
TIMED, PASSES = 100, 15
"""Validation samples on which files are timed, and passes over them; the least time of each sample counts."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The data and the size of the network, and epochs of the blocks, the policy, and both together."""

    train_samples: int | None
    width: int
    stride: int
    blocks: int
    epochs: tuple[int, int, int]
    prices: tuple[float, ...]
    learning_rate: float = 0.01

    @property
    def in_all(self) -> int:
        """Epochs of one network with a policy."""
        return sum(self.epochs)


SETTINGS = {
    "digits": Setting(train_samples=None, width=16, stride=1, blocks=6, epochs=(6, 6, 6), prices=(0.05, 0.3)),
}


class Rewarded:
    """REINFORCE with a self-critical baseline, alone or next to the cross-entropy of the drawn networks.

    price: of the time of all blocks, next to 1 for a right answer. times: of each block as a fraction of all.
    """

    learners: Sequence[nn.Module] = ()

    def __init__(self, *, price: float, times: Tensor, together: bool) -> None:
        self._price, self._times, self._together = price, times, together

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Batch, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Return the terms of a batch; see `TrainingObjective`."""
        network, (samples,), (labels,) = model, batch.values(), targets.values()
        assert isinstance(network, Conditional)
        if not self._together:
            network.eval()  # the statistics of its normalisation stay
        features = network.features(samples)
        chance = network.wants(features).sigmoid()
        chance = CERTAIN * chance + (1 - CERTAIN) * (1 - chance)
        drawn, greedy = torch.bernoulli(chance.detach()) > 0, chance > 0.5
        logits = network.run(features, drawn)
        with torch.no_grad():
            gain = self._reward(logits, labels, drawn) - self._reward(network.run(features, greedy), labels, greedy)
        logs = torch.where(drawn, chance, 1 - chance).log().sum(1)
        terms = {"policy": -(gain * logs).mean()}
        return terms | ({"cross_entropy": F.cross_entropy(logits, labels)} if self._together else {})

    def _reward(self, logits: Tensor, labels: Tensor, kept: Tensor) -> Tensor:
        return (logits.argmax(1) == labels).float() - self._price * (kept.float() @ self._times)


class Fixed:
    """The cross-entropy of one subset of the blocks."""

    learners: Sequence[nn.Module] = ()

    def __init__(self, kept: Sequence[int]) -> None:
        self._kept = tuple(kept)

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Batch, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Return the terms of a batch; see `TrainingObjective`."""
        (samples,), (labels,) = batch.values(), targets.values()
        assert isinstance(model, Conditional)
        features = model.features(samples)
        return {"cross_entropy": F.cross_entropy(model.run(features, pattern(model, self._kept, samples)), labels)}


def pattern(network: Conditional, kept: Sequence[int], samples: Tensor) -> Tensor:
    """Return the same decisions for all samples: bool (N, blocks)."""
    row = torch.tensor([number in kept for number in range(network.shape.blocks)])
    return row.expand(len(samples), -1)


def seconds(session: InferenceSession, sample: NDArray[Any]) -> float:
    """Return the processor's time of one run; other processes have no part in it."""
    begun = time.thread_time()
    session.run(None, {"input": sample})
    return time.thread_time() - begun


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """The data and the sizes of one comparison. folder: keeps the files."""

    setting: Setting
    data: Dataset
    folder: Path

    def fresh(self, blocks: int, seed: int) -> Conditional:
        """Return an untrained network."""
        (normal,) = self.data.normalisation.values()
        torch.manual_seed(seed)
        (given,), classes = self.data.task.signature.inputs, self.data.task.classes
        assert classes is not None
        return Conditional(
            Shape(
                image=tuple(given.sample_shape),  # type: ignore[arg-type]
                classes=classes,
                mean=round(normal.mean),
                std=normal.std,
                width=self.setting.width,
                stride=self.setting.stride,
                blocks=blocks,
            )
        )

    def fit(self, network: Conditional, objective: Any, epochs: int, *, seed: int, rate: float = 1.0) -> None:
        """Train a network in place. rate: peak learning rate, as a fraction of the setting's."""
        train(
            network,
            self.data.train,
            self.data.augmentation,
            objective=objective,
            epochs=epochs,
            batch_size=64,
            learning_rate=self.setting.learning_rate * rate,
            weight_decay=0.01,
            seed=seed,
            macs=1,
        )

    def milliseconds(self, paths: Sequence[Path]) -> list[list[float]]:
        """Return the times of files over single validation samples, rising; the files take turns in every pass."""
        sessions = [open_session(path) for path in paths]
        inputs = to_arrays(self.data.validation.inputs)["input"][:TIMED]
        found: list[list[list[float]]] = [[] for _ in paths]
        for _ in range(PASSES):
            for passes, session in zip(found, sessions, strict=True):
                seconds(session, inputs[:1])
                passes.append([seconds(session, row[None]) for row in inputs])
        return [sorted(1e3 * min(of_sample) for of_sample in zip(*passes, strict=True)) for passes in found]

    def accuracy(self, path: Path, split: Split) -> float:
        """Return the accuracy of a file."""
        labels = split.targets["label"].numpy()
        return float((predict(path, to_arrays(split.inputs))[LOGITS].argmax(1) == labels).mean())

    def static(
        self, network: Conditional, kept: Sequence[int], name: str, price: float | None = None
    ) -> dict[str, Any]:
        """Return the row of a plain file of some blocks. price: of the policy that it is compared with."""
        path = self.folder / f"{name}.onnx"
        write_static(network, kept, path)
        test = self.data.test.reveal(purpose="accuracy of the comparison")
        return {
            "network": name,
            "blocks": " ".join(map(str, kept)),
            "validation": self.accuracy(path, self.data.validation),
            "accuracy": self.accuracy(path, test),
            "bytes": path.stat().st_size,
            "price": price,
        }


def block_times(study: Study, network: Conditional) -> tuple[float, Tensor]:
    """Measure the time of all blocks with stem and head, and the share of each block, from plain files without it."""
    everything = tuple(range(network.shape.blocks))
    subsets = [everything, *(tuple(each for each in everything if each != block) for block in everything)]
    paths = [study.folder / f"times{number}.onnx" for number in range(len(subsets))]
    for path, kept in zip(paths, subsets, strict=True):
        write_static(network, kept, path)
    whole, *others = map(statistics.fmean, study.milliseconds(paths))
    return whole, torch.tensor([whole - other for other in others])


def subset_accuracy(network: Conditional, split: Split, decisions: Tensor) -> float:
    """Return the accuracy of a module with given decisions, bool (N, blocks)."""
    (samples,), (labels,) = split.inputs.values(), split.targets.values()
    with torch.no_grad():
        right = [
            network.run(network.features(part), keep).argmax(1) == answers
            for part, keep, answers in zip(samples.split(500), decisions.split(500), labels.split(500), strict=True)
        ]
    return float(torch.cat(right).float().mean())


def conditional_row(study: Study, network: Conditional, name: str, seed: int) -> dict[str, Any]:
    """Return the row of a file with a policy, and its controls on the test split."""
    path = study.folder / f"{name}.onnx"
    write_conditional(network, path)
    test = study.data.test.reveal(purpose="accuracy of the comparison")
    decided = torch.from_numpy(predict(path, to_arrays(test.inputs))[WANTS]) > 0
    with torch.no_grad():
        own = network.wants(network.features(test.inputs["input"])) > 0
    same = float((decided == own).all(1).float().mean())
    assert same > 0.99, f"file and module decide alike for {same} of the samples"
    patterns = Counter(map(tuple, decided.int().tolist()))
    (usual, count), *_ = patterns.most_common()
    shuffle = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(decided), generator=shuffle) for _ in range(SHUFFLES)]
    return {
        "network": name,
        "blocks": " ".join(str(number) for number, kept in enumerate(usual) if kept),
        "validation": study.accuracy(path, study.data.validation),
        "accuracy": study.accuracy(path, test),
        "bytes": path.stat().st_size,
        "kept": float(decided.float().mean()),
        "patterns": len(patterns),
        "usual_share": count / len(decided),
        "usual_for_all": subset_accuracy(network, test, torch.tensor(usual).bool().expand(len(decided), -1)),
        "shuffled": statistics.fmean(subset_accuracy(network, test, decided[order]) for order in orders),
    }


def best_subset(study: Study, network: Conditional, limit_ms: float, times: Tensor, base_ms: float) -> tuple[int, ...]:
    """Return the fixed subset of the blocks with the best validation accuracy in a time."""
    validation, count = study.data.validation, network.shape.blocks
    found: list[tuple[float, tuple[int, ...]]] = []
    for kept in itertools.chain.from_iterable(itertools.combinations(range(count), size) for size in range(count + 1)):
        if base_ms + float(times[list(kept)].sum()) <= limit_ms:
            decisions = pattern(network, kept, validation.inputs["input"])
            found.append((subset_accuracy(network, validation, decisions), kept))
    return max(found)[1] if found else ()


def compare(study: Study, seed: int) -> list[dict[str, Any]]:
    """Return all rows of one seed."""
    setting, everything = study.setting, tuple(range(study.setting.blocks))
    first, policy_epochs, together = setting.epochs
    whole = study.fresh(setting.blocks, seed)
    study.fit(whole, Fixed(everything), first, seed=seed)
    whole_ms, times = block_times(study, whole)
    rows = [study.static(whole, everything, f"{seed}-all-trained-{first}-epochs")]

    # networks of fewer blocks, from scratch
    for count in range(1, setting.blocks + 1):
        shallow, kept = study.fresh(count, seed), tuple(range(count))
        study.fit(shallow, Fixed(kept), setting.in_all, seed=seed)
        rows.append(study.static(shallow, kept, f"{seed}-scratch-{count}"))

    for price in setting.prices:
        network = deepcopy(whole)
        backbone = [value for name, value in network.named_parameters() if not name.startswith("policy")]
        shares = times / times.sum()
        for value in backbone:
            value.requires_grad_(False)
        study.fit(network, Rewarded(price=price, times=shares, together=False), policy_epochs, seed=seed)
        for value in backbone:
            value.requires_grad_(True)
        study.fit(network, Rewarded(price=price, times=shares, together=True), together, seed=seed + 1, rate=0.5)
        rows.append(conditional_row(study, network, f"{seed}-policy-{price}", seed) | {"price": price})

        # the best fixed subset in the same time, of this network and trained further from the same start
        paths = [study.folder / f"{rows[place]['network']}.onnx" for place in (0, -1)]
        now_ms, own_ms = map(statistics.fmean, study.milliseconds(paths))
        limit_ms, base_ms = whole_ms * own_ms / now_ms, whole_ms - float(times.sum())
        kept = best_subset(study, network, limit_ms, times, base_ms)
        rows.append(study.static(network, kept, f"{seed}-subset-of-policy-{price}", price=price))
        tuned = deepcopy(whole)
        kept = best_subset(study, tuned, limit_ms, times, base_ms)
        study.fit(tuned, Fixed(kept), policy_epochs + together, seed=seed + 1, rate=0.5)
        rows.append(study.static(tuned, kept, f"{seed}-tuned-subset-{price}", price=price))
    timed = study.milliseconds([study.folder / f"{row['network']}.onnx" for row in rows])
    return [{"seed": seed} | row | of_times(each_ms) for row, each_ms in zip(rows, timed, strict=True)]


def of_times(each_ms: Sequence[float]) -> dict[str, float]:
    """Return mean, median and 95th percentile of rising times."""
    p95 = each_ms[int(0.95 * (len(each_ms) - 1))]
    return {"mean_ms": statistics.fmean(each_ms), "p50_ms": statistics.median(each_ms), "p95_ms": p95}


def main() -> None:
    """Run the comparison of one data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=sorted(SETTINGS), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the files")
    given = parser.parse_args()
    torch.set_num_threads(1)
    setting, folder = SETTINGS[given.data], given.out / given.data
    folder.mkdir(parents=True, exist_ok=True)
    data = load_dataset(name=given.data, train_samples=setting.train_samples, shift=0)
    study = Study(setting=setting, data=data, folder=folder)
    writer = None
    for seed in given.seeds:
        for row in compare(study, seed):
            columns = ["seed", "network", "price", "blocks", "validation", "accuracy", "mean_ms", "p50_ms", "p95_ms",
                       "bytes", "kept", "patterns", "usual_share", "usual_for_all", "shuffled"]  # fmt: skip
            if writer is None:
                writer = csv.DictWriter(sys.stdout, columns)
                writer.writeheader()
            writer.writerow(
                {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()}
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
