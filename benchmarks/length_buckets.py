"""Compare epochs with batches of similar lengths and with shuffled ones, on sentences of SST-2.

    python benchmarks/length_buckets.py

Both are the training loop itself; a shuffled batch is cut to its longest sentence too. Epochs take turns. Times are
processor times of one thread. A ratio is that of the least times, and in brackets the median of those of each turn.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

import nas_compress.training.loop as loop
from nas_compress.data.load_dataset import load_dataset
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.training.objective import LossObjective
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.candidate import cross_entropy
from nas_compress.values.family_settings import family_settings

SENTENCES, BATCH, TURNS = 1280, 32, 5
NETS = {
    "encoder 64, 2 layers": ("encoder", {"heads": 4}, 64, 2),
    "LSTM 64, both directions": ("recurrent", {"cell": "lstm"}, 64, 1),
    "text_cnn 64": ("text_cnn", {}, 64, 1),
}
"""Family, settings, width, depth."""


def shuffled(order: Tensor, lengths: Tensor, *, batch_size: int, shuffle: torch.Generator) -> Tensor:
    """Return the order as it is."""
    return order


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)
    data = load_dataset(name="sst2", train_samples=SENTENCES)
    print(f"{describe_machine()}, {len(data.train)} sentences, {TURNS} turns\n")
    print("| network | shuffled, s | similar lengths, s | shuffled / similar lengths |\n|---|---|---|---|")
    orders = {"shuffled": shuffled, "similar": loop.bucketed}
    for name, (family, settings, width, depth) in NETS.items():
        known, given = FAMILIES[family], family_settings(family, settings)
        layers = known.layers((depth,), (width,), given)
        shape = Architecture(
            family=family,
            signature=data.task.signature,
            depths=(depth,),
            widths=tuple(Width(layer=layer, asked=base, channels=base) for layer, base in layers),
            settings=given,
        )
        found: dict[str, list[float]] = {kind: [] for kind in orders}
        for turn in range(TURNS + 1):
            for kind, order in orders.items():
                torch.manual_seed(turn)
                network = build_student(known.complete(shape))
                loop.bucketed = order
                began = time.process_time()
                loop.train(
                    network,
                    data.train,
                    data.augmentation,
                    objective=LossObjective(TrainingLoss(data.task, cross_entropy())),
                    epochs=1,
                    batch_size=BATCH,
                    learning_rate=1e-3,
                    weight_decay=0.01,
                    seed=turn,
                    macs=1,
                )
                found[kind].append(time.process_time() - began)
        plain, sorted_ = (found[kind][1:] for kind in orders)  # the first turn warms up
        ratios = [one / other for one, other in zip(plain, sorted_, strict=True)]
        print(
            f"| {name} | {min(plain):.2f} | {min(sorted_):.2f} | {min(plain) / min(sorted_):.2f} "
            f"[{statistics.median(ratios):.2f}] |",
            flush=True,
        )


if __name__ == "__main__":
    main()
