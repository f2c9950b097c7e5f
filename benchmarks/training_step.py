"""What a training step costs beyond the bare forward and backward pass.

    python benchmarks/training_step.py [--seconds 20] [--threads 1]

Rounds of a few steps alternate between four ways to train one network: `bare` is forward, cross-entropy and backward
on a batch that lies ready, nothing else; `update` is bare with AdamW as torch's users write it; `loop` is the tool's
own training with cross-entropy, `kd` the same with distillation from cached answers. The last two are whole calls of
`train`: set-up, shuffling, views and history included. Times are the processor's, all threads together, so that what
else the machine does counts less. Ratios are medians over rounds of the ratio within a round,
with the middle half of them in brackets.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from nas_compress.candidate import LossTerm, cross_entropy, distillation
from nas_compress.data.views import Views
from nas_compress.losses.terms import make_loss
from nas_compress.measurement.machine import describe_machine
from nas_compress.models.families import build_student
from nas_compress.training.loop import train
from nets import architecture, random_samples

DATA = {
    "digits": ((1, 8, 8), 64, 16, Views(shift=1)),
    "fashion": ((1, 28, 28), 128, 3, Views(shift=1, flip=True)),
}
"""Sample shape, batch size, steps of a round, views."""

NETS = {
    "resnet 20k": ("resnet", (1, 1, 1), 0.25),
    "resnet 200k": ("resnet", (1, 1, 1), 0.75),
    "mobilenet 20k": ("mobilenet", (1, 1, 1), 1.0),
    "mobilenet 200k": ("mobilenet", (2, 2, 2), 2.0),
}
"""Family, blocks per stage, width multiplier."""

WAYS = ("bare", "update", "loop", "kd")
RATIOS = (("update", "bare"), ("loop", "bare"), ("kd", "bare"), ("kd", "update"), ("kd", "loop"))


def ways(net: str, data: str) -> tuple[int, int, dict[str, Callable[[], object]]]:
    """Parameters, steps of a round, and one function a way that trains for a round."""
    family, depths, multiplier = NETS[net]
    shape, batch_size, steps, views = DATA[data]
    samples = random_samples(steps * batch_size, shape)
    answers = torch.randn((views.count, len(samples), 10), generator=torch.Generator().manual_seed(0)).half()
    torch.manual_seed(0)
    model = build_student(architecture(family, shape, depths=depths, multiplier=multiplier))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch, labels = samples.inputs[:batch_size].clone(), samples.labels[:batch_size].clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def bare(update: bool) -> None:
        model.train()
        for _ in range(steps):
            model.zero_grad()
            F.cross_entropy(model(batch), labels).backward()  # type: ignore[no-untyped-call]
            if update:
                optimizer.step()

    def ours(terms: tuple[LossTerm, ...], teacher_logits: torch.Tensor | None) -> None:
        train(
            model,
            samples,
            views,
            loss=make_loss(terms),
            epochs=1,
            batch_size=batch_size,
            learning_rate=1e-5,
            weight_decay=0.01,
            seed=0,
            teacher_logits=teacher_logits,
        )

    taught = distillation(hard_weight=0.1, soft_weight=0.9, temperature=4.0)
    functions = (
        lambda: bare(False),
        lambda: bare(True),
        lambda: ours(cross_entropy(), None),
        lambda: ours(taught, answers),
    )
    return sum(p.numel() for p in model.parameters()), steps, dict(zip(WAYS, functions, strict=True))


def alternate(functions: dict[str, Callable[[], object]], seconds: float) -> list[dict[str, float]]:
    """Seconds of the processor by way, one entry a round; the order turns from round to round."""
    for function in functions.values():
        function()
    rounds: list[dict[str, float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds) < 3:
        names = list(functions) if len(rounds) % 2 == 0 else list(reversed(functions))
        taken = {}
        for name in names:
            start = time.process_time()
            functions[name]()
            taken[name] = time.process_time() - start
        rounds.append(taken)
    return rounds


def ratio(rounds: list[dict[str, float]], above: str, below: str) -> str:
    """The median over rounds, and the middle half."""
    low, middle, high = statistics.quantiles((taken[above] / taken[below] for taken in rounds), n=4)
    return f"{middle:.3f} [{low:.2f}-{high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each network on each data set")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--data", choices=DATA, action="append", help="only these")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(f"{describe_machine()}; torch {torch.__version__}, {chosen.threads} thread(s)")
    heads = [f"{above}/{below}" for above, below in RATIOS]
    print(f"{'data':8} {'net':14} {'numbers':>8} {'bare, ms':>8} " + " ".join(f"{head:>17}" for head in heads) + "  n")
    for data in chosen.data or DATA:
        for net in NETS:
            numbers, steps, functions = ways(net, data)
            rounds = alternate(functions, chosen.seconds)
            bare_ms = 1e3 * statistics.median(taken["bare"] for taken in rounds) / steps
            told = " ".join(f"{ratio(rounds, above, below):>17}" for above, below in RATIOS)
            print(f"{data:8} {net:14} {numbers:8,} {bare_ms:8.2f} {told}  {len(rounds)}", flush=True)


if __name__ == "__main__":
    main()
