"""Measure the cost of a training step over the bare forward and backward pass.

    python benchmarks/training_step.py [--seconds 20] [--threads 1]

- `loop`: a step of `train` with cross-entropy: shuffled batch, view, loss, backward, update, history.
- `kd`: the same with distillation from cached answers.
- `bare`: forward, cross-entropy and backward on a prepared batch.
- `update`: bare with AdamW, as torch's users write it.
- `bfloat16`: the loop with bfloat16 products.

After each step of `train`, a copy of the network takes a bare step and an update step. Ratios are within such a triple:
the median over all triples, in brackets the middle half. Times are processor times over all threads, which reduces the
influence of other programs. Bare and update are float32 in all rows. The work of `train` before its first step is
excluded.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.losses.table import needs_teacher
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import build_student
from nas_compress.tasks.batch import Batch
from nas_compress.tasks.classification import Classification
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective, TrainingObjective
from nas_compress.training.precision import Products
from nas_compress.values.candidate import LossTerm, cross_entropy, distillation
from nets import architecture, random_samples

DATA = {
    "digits": ((1, 8, 8), 64, ShiftAndFlip(shift=1)),
    "fashion": ((1, 28, 28), 128, ShiftAndFlip(shift=1, flip=True)),
}
"""Sample shape, batch size, views."""

WARM_UP = 3

NETS = {
    "resnet 20k": ("resnet", (1, 1, 1), 0.25),
    "resnet 200k": ("resnet", (1, 1, 1), 0.75),
    "mobilenet 20k": ("mobilenet", (1, 1, 1), 1.0),
    "mobilenet 200k": ("mobilenet", (2, 2, 2), 2.0),
}
"""Family, blocks per stage, width multiplier."""

COLUMNS = (("loop", "update"), ("loop", "loop"), ("kd", "loop"), ("bfloat16", "loop"), ("bfloat16 kd", "loop"))
"""The trainings and steps that are divided by the bare step of the same moment."""


class Enough(BaseException):
    """The time is up."""


class Paced:
    """A training's objective that, at each step, first lets other steps run; it keeps the seconds of them all.

    One step is the time from one call to the next: this step's forward pass, loss, backward and update, and the next
    one's batch.
    """

    def __init__(
        self, objective: TrainingObjective, others: Mapping[str, Callable[[], None]], *, seconds: float
    ) -> None:
        self.taken: list[dict[str, float]] = []
        self._objective, self._others = objective, others
        self._end, self._resumed = time.perf_counter() + seconds, 0.0

    @property
    def learners(self) -> Sequence[nn.Module]:
        """The objective's."""
        return self._objective.learners

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Batch, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """The loss of the step."""
        taken = {"loop": time.process_time() - self._resumed}
        for name, step in self._others.items():
            start = time.process_time()
            step()
            taken[name] = time.process_time() - start
        if self._resumed:
            self.taken.append(taken)
        if time.perf_counter() > self._end and len(self.taken) > WARM_UP + 2:
            raise Enough
        self._resumed = time.process_time()
        return self._objective(model, batch, targets, view=view, index=index, progress=progress)


def network(net: str, shape: tuple[int, int, int]) -> nn.Module:
    family, depths, multiplier = NETS[net]
    torch.manual_seed(0)
    model = build_student(architecture(family, shape, depths=depths, multiplier=multiplier))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def plain_steps(model: nn.Module, batch: Tensor, labels: Tensor) -> dict[str, Callable[[], None]]:
    """Return the bare step and the one with an update."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def bare() -> None:
        model.zero_grad()
        F.cross_entropy(model(batch), labels).backward()  # type: ignore[no-untyped-call]

    def update() -> None:
        bare()
        optimizer.step()

    return {"bare": bare, "update": update}


def paced_steps(
    net: str, data: str, terms: tuple[LossTerm, ...], seconds: float, products: Products = "float32"
) -> list[dict[str, float]]:
    """Train for a number of seconds and return the times of its steps and of their neighbours."""
    shape, batch_size, views = DATA[data]
    samples, task = random_samples(20 * batch_size, shape), Classification.of_images(shape=shape, classes=10)
    answers = torch.randn((views.count, len(samples), 10), generator=torch.Generator().manual_seed(0)).half()
    others = plain_steps(
        network(net, shape).train(), samples.inputs["input"][:batch_size], samples.targets["label"][:batch_size]
    )
    paced = Paced(
        LossObjective(TrainingLoss(task, terms), answers=answers if needs_teacher(terms) else None),
        others,
        seconds=seconds,
    )
    with contextlib.suppress(Enough):
        train(
            network(net, shape),
            samples,
            views,
            objective=paced,
            epochs=10_000,
            batch_size=batch_size,
            learning_rate=1e-5,
            weight_decay=0.01,
            seed=0,
            products=products,
        )
    return paced.taken[WARM_UP:]


def ratio(taken: list[dict[str, float]], step: str) -> str:
    """Format the median and the middle half."""
    low, middle, high = statistics.quantiles((seconds[step] / seconds["bare"] for seconds in taken), n=4)
    return f"{middle:.3f} [{low:.2f}-{high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each training of each network")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--data", choices=DATA, action="append", help="only these")
    parser.add_argument("--net", choices=NETS, action="append", help="only these")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(f"{describe_machine()}; torch {torch.__version__}, {chosen.threads} thread(s)")
    heads = " ".join(f"{head:>17}" for head in ("update/bare", "loop/bare", "kd/bare", "bf16/bare", "bf16 kd/bare"))
    print(f"{'data':8} {'net':14} {'numbers':>8} {'bare, ms':>8} {heads} kd/loop  n")
    taught = distillation(hard_weight=0.1, soft_weight=0.9, temperature=4.0)
    for data in chosen.data or DATA:
        for net in chosen.net or NETS:
            numbers = sum(p.numel() for p in network(net, DATA[data][0]).parameters())
            taken = {
                "loop": paced_steps(net, data, cross_entropy(), chosen.seconds),
                "kd": paced_steps(net, data, taught, chosen.seconds),
                "bfloat16": paced_steps(net, data, cross_entropy(), chosen.seconds, "bfloat16"),
                "bfloat16 kd": paced_steps(net, data, taught, chosen.seconds, "bfloat16"),
            }
            bare_ms = 1e3 * statistics.median(seconds["bare"] for seconds in taken["loop"])
            told = " ".join(f"{ratio(taken[training], step):>17}" for training, step in COLUMNS)
            against = middle(taken["kd"]) / middle(taken["loop"])
            counts = ", ".join(str(len(steps)) for steps in taken.values())
            print(f"{data:8} {net:14} {numbers:8,} {bare_ms:8.2f} {told} {against:7.3f}  {counts}", flush=True)


def middle(taken: list[dict[str, float]]) -> float:
    """Return the median ratio of a training step to the bare step."""
    return statistics.median(seconds["loop"] / seconds["bare"] for seconds in taken)


if __name__ == "__main__":
    main()
