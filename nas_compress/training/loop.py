"""The training loop of teachers and students."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from nas_compress.data.augment.protocol import Augmentation
from nas_compress.data.dataset import Split
from nas_compress.errors import NonFiniteLossError, RequestError
from nas_compress.models.onednn_workaround import safe_backward
from nas_compress.tasks.batch import device_of, rows, token_lengths, unpadded
from nas_compress.training.checkpoint import Checkpoint, TrainingState
from nas_compress.training.flat_parameters import flattened
from nas_compress.training.length_buckets import bucketed
from nas_compress.training.objective import TrainingObjective
from nas_compress.training.precision import Products, training_in
from nas_compress.training.runtime import fitting_threads, keep_freed_memory, memory_format_for
from nas_compress.training.schedule import learning_rate_at
from nas_compress.training.sparsity import Sparsifier


def train(
    model: nn.Module,
    samples: Split,
    augmentation: Augmentation,
    *,
    objective: TrainingObjective,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
    first_epoch: int = 0,
    draws: Tensor | None = None,
    macs: int | None = None,
    products: Products | None = None,
    sparsifier: Sparsifier | None = None,
    pause: Callable[[], None] | None = None,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[int, dict[str, float]], bool | None] | None = None,
) -> dict[str, float]:
    """Train `model` in place and return the mean of each loss term over the last epoch.

    samples: on the model's device. Batches of token ids have samples of similar lengths, see `length_buckets`.
    objective: its own modules learn together with the model.
    first_epoch: number of the first epoch, for views of whole epochs.
    draws: chance of each sample (N,) on the CPU, to draw an epoch with repetition; None for each sample once.
    macs: multiply-adds of one sample; counted if None.
    products: format of the products; None for bfloat16 on a GPU and float32 elsewhere.
    sparsifier: sets weights to 0 and keeps them there.
    pause: called before each batch; it may wait.
    checkpoint: the training continues after the last epoch in it.
    on_epoch: called with the number of finished epochs and their terms; True ends the training.

    An epoch omits an incomplete last batch. The model is left in eval mode. Raises NonFiniteLossError with the step
    (from 0) and the terms, and UnfitCheckpointError, before the first step, for a checkpoint of another training.

    >>> from nas_compress.values.candidate import cross_entropy
    >>> from nas_compress.data.load_dataset import load_dataset
    >>> from nas_compress.losses.training_loss import TrainingLoss
    >>> from nas_compress.training.objective import LossObjective
    >>> class Flat(nn.Linear):
    ...     def forward(self, samples):
    ...         return super().forward(samples.flatten(1).float())
    >>> data = load_dataset(name="digits", shift=0)
    >>> objective = LossObjective(TrainingLoss(data.task, cross_entropy()))
    >>> means = train(Flat(64, 10), data.train, data.augmentation, objective=objective, epochs=3, batch_size=32,
    ...               learning_rate=0.01, weight_decay=0.01, seed=0)
    >>> means["cross_entropy"] < 0.5
    True
    """
    if epochs < 1 or batch_size < 1:
        raise RequestError(f"epochs >= 1 and batch_size >= 1 must hold, but got {epochs=}, {batch_size=}")
    keep_freed_memory()
    device = device_of(samples.inputs)
    shuffle = torch.Generator().manual_seed(seed)
    views = augmentation.over(samples.inputs)
    lengths = token_lengths(samples.inputs, samples.tokens) if samples.tokens else None
    batch_size = min(batch_size, len(samples))
    steps_per_epoch = len(samples) // batch_size
    steps = epochs * steps_per_epoch
    learners = nn.ModuleList([model, *objective.learners]).to(device)
    memory_format = memory_format_for(model, rows(samples.inputs, 0, 2))
    learners.to(memory_format=memory_format)  # type: ignore[call-overload]

    learners.train()
    with (
        fitting_threads(model, rows(samples.inputs, 0, 1), batch_size=batch_size, macs=macs),
        safe_backward(learners),
        training_in(products, learners),
        _optimizer(learners, weight_decay, memory_format) as optimizer,
    ):
        state = TrainingState(learners=learners, optimizer=optimizer, shuffle=shuffle, sparsifier=sparsifier)
        begin, means = (0, {}) if checkpoint is None else checkpoint.begin(state, epochs)
        step = begin * steps_per_epoch
        for epoch in range(begin, epochs):
            of_epoch = augmentation.view_of(first_epoch + epoch)
            if draws is None:
                order = views.order(len(samples), of_epoch, shuffle).to(device)
            else:
                drawn = torch.multinomial(draws, len(samples), replacement=True, generator=shuffle)
                order = views.arranged(drawn, of_epoch, shuffle).to(device)
            if lengths is not None:
                order = bucketed(order, lengths, batch_size=batch_size, shuffle=shuffle)
            of_steps = _views(augmentation, of_epoch, steps_per_epoch, shuffle)
            history: list[dict[str, Tensor]] = []
            for number, view in enumerate(of_steps):
                if pause is not None:
                    pause()
                # batch: one view for all its samples
                index = order[number * batch_size : (number + 1) * batch_size]
                batch = unpadded(views.batch(index, view), samples.tokens)
                targets = views.targets(samples.targets, index, view)

                # forward, backward, update
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate_at(step, steps=steps, peak=learning_rate)
                optimizer.zero_grad(set_to_none=False)
                if sparsifier is not None:
                    sparsifier.before_forward(step, steps)
                terms = objective(model, batch, targets, view=view, index=index, progress=step / steps)
                _sum(terms).backward()  # type: ignore[no-untyped-call]
                if sparsifier is not None:
                    sparsifier.before_update()
                optimizer.step()
                if sparsifier is not None:
                    sparsifier.after_update()
                history.append({name: term.detach() for name, term in terms.items()})
                step += 1

            # summary of the epoch: one transfer from the device for all its steps
            means = _summary(history, first_step=step - steps_per_epoch)
            if on_epoch is not None and on_epoch(epoch + 1, means):
                break
            if checkpoint is not None:
                checkpoint.epoch(state, epoch + 1, means, last=epoch + 1 == epochs)
    if sparsifier is not None:
        sparsifier.finish()
    learners.eval()
    return means


def _views(augmentation: Augmentation, of_epoch: int | None, steps: int, shuffle: torch.Generator) -> list[int]:
    """Return the view of each step of an epoch: the epoch's own, or drawn ones."""
    if of_epoch is not None:
        return [of_epoch] * steps
    drawn: list[int] = torch.randint(augmentation.count, (steps,), generator=shuffle).tolist()
    return drawn


@contextmanager
def _optimizer(
    model: nn.Module, weight_decay: float, memory_format: torch.memory_format
) -> Iterator[torch.optim.Optimizer]:
    """AdamW (Loshchilov, Hutter 2019, arXiv 1711.05101); biases and normalisation are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = (
        (weight_decay, [parameter for parameter in trained if parameter.ndim > 1]),
        (0.0, [parameter for parameter in trained if parameter.ndim <= 1]),
    )
    with ExitStack() as stack:
        groups = [
            {"params": [stack.enter_context(flattened(parameters, memory_format))], "weight_decay": decay}
            for decay, parameters in decayed
            if parameters
        ]
        yield _AdamW(groups, lr=0.0, fused=True)


class _AdamW(torch.optim.AdamW):
    # torch's own forms of these methods import torch._dynamo at their first call, which takes 2 seconds of a process
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


def _sum(terms: Mapping[str, Tensor]) -> Tensor:
    return functools.reduce(torch.add, terms.values())


def _summary(history: list[dict[str, Tensor]], *, first_step: int) -> dict[str, float]:
    names = list(history[0])
    table = torch.stack([torch.stack([terms[name] for name in names]) for terms in history]).cpu()
    finite = torch.isfinite(table)
    if not bool(finite.all()):
        row = int((~finite).any(dim=1).nonzero()[0])
        broken = ", ".join(
            f"{name} = {table[row, column]:g}" for column, name in enumerate(names) if not finite[row, column]
        )
        raise NonFiniteLossError(f"every loss term must be finite, but at step {first_step + row}: {broken}")
    return dict(zip(names, table.mean(dim=0).tolist(), strict=True))
