"""The teacher's logits of every training sample in every view, computed once and stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nas_compress.callbacks import Notice
from nas_compress.data.augment.protocol import Augmentation
from nas_compress.data.dataset import Split
from nas_compress.errors import DamagedFileError, NonFiniteLossError, RequestError
from nas_compress.tasks.batch import (
    Batch,
    device_of,
    fitting,
    free_sizes,
    named_outputs,
    token_lengths,
    unpadded,
    zeros,
)
from nas_compress.tasks.task import Task
from nas_compress.teacher.finite_answers import BATCH, finite_rows, finite_rule
from nas_compress.teacher.tensor_file import read_tensors, write_tensors
from nas_compress.training.random_state import kept_random_states
from nas_compress.training.runtime import keep_freed_memory

PROBE = 64
"""Stored logits that are compared with fresh ones, spread over all samples and views."""

MOST_BYTES = 2**30
"""Largest size of the stored logits, in memory and on disk; above it the teacher answers each batch."""

CLOSE, ROUNDING = 0.01, 1e-5
"""Allowed difference of stored and fresh logits: fractions of the largest distance from a maximum, and of the largest
maximum. Devices and batch sizes round differently."""

_LEAST = torch.finfo(torch.float16).min
_TINY = torch.finfo(torch.float16).smallest_normal * torch.finfo(torch.float16).eps
"""Smallest positive float16."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Logits of N samples in all views, as differences: a constant added to a row changes none of them.

    relative: float16 (views, N, ..., C), the logits minus the maximum of their row. It is 0 for the best class and
    negative for all others; differences below the range of float16 become its lowest number.
    maximum: float32 (views, N, ...). `relative + maximum[..., None]` are the logits.
    """

    relative: Tensor
    maximum: Tensor


def answers_bytes(samples: Split, augmentation: Augmentation, task: Task) -> int:
    """Return the bytes of the logits of all samples in all views."""
    sizes = free_sizes(samples.inputs, task.signature.inputs)
    of_sample = task.logits(zeros(task.signature.outputs, 1, sizes=sizes)).numel()
    return augmentation.count * len(samples) * of_sample * torch.float16.itemsize


def compute_answers(
    network: nn.Module,
    samples: Split,
    augmentation: Augmentation,
    task: Task,
    *,
    among: Tensor | None = None,
    logits: Callable[[Batch], Tensor] | None = None,
    on_view: Callable[[int, int], None] | None = None,
) -> Answers:
    """Return the answers of a network, on the samples' device.

    The network runs in eval mode without gradients. The random state stays as it is.
    among: sorted indices of the samples to answer, in this order; None for all.
    logits: from named outputs to logits, by default those of the task.
    on_view: called with finished and planned views.
    NonFiniteLossError if a logit is infinite or nan, with the number of samples.
    """
    keep_freed_memory()
    network.eval()
    device, views = device_of(samples.inputs), augmentation.over(samples.inputs)
    size = fitting(samples.inputs, BATCH)
    finite = torch.ones(len(samples) if among is None else len(among), dtype=torch.bool, device=device)
    relative, maximum = torch.empty(0), torch.empty(0)
    with torch.no_grad(), kept_random_states(device):
        for view in range(augmentation.count):
            order = views.order(len(samples), view, None).to(device)
            if samples.tokens:
                order = token_lengths(samples.inputs, samples.tokens).argsort(stable=True)
            if among is not None:
                order = order[torch.isin(order, among.to(device))]
            with torch.inference_mode():
                batches = (unpadded(views.batch(piece, view), samples.tokens) for piece in torch.split(order, size))
                pieces = [_logits(network, batch, task, logits).float() for batch in batches]
                found = torch.cat(pieces)[order.argsort()]
                finite &= finite_rows(found)
                below, best = below_maximum(found)
            if view == 0:  # all views at once: a list of them would be copied
                relative = torch.empty((augmentation.count, *below.shape), dtype=below.dtype, device=device)
                maximum = torch.empty((augmentation.count, *best.shape), dtype=best.dtype, device=device)
            relative[view], maximum[view] = below, best
            if on_view is not None:
                on_view(view + 1, augmentation.count)
    broken = int((~finite).sum())
    if broken:
        raise NonFiniteLossError(finite_rule(broken, len(samples), samples.name))
    return Answers(relative=relative, maximum=maximum)


def cached_answers(
    path: Path,
    network: nn.Module,
    samples: Split,
    augmentation: Augmentation,
    task: Task,
    *,
    identity: Mapping[str, str],
    name: str,
    remedy: str,
    notice: Notice,
    on_view: Callable[[int, int], None] | None = None,
) -> Answers:
    """Return the answers stored at `path` if this network computed them; otherwise compute and store them.

    identity: of the network and the samples; answers of another identity are computed again.
    name, remedy: of the network, for error texts. notice: receives a line about a damaged file.
    RequestError if an answer is infinite or nan.
    """
    wanted = {**identity, "views": augmentation.identity}
    try:
        stored = _read(path, wanted)
        if stored is not None and _is_current(stored, network, samples, augmentation, task):
            return _on(stored, samples)
    except FileNotFoundError:
        pass
    except DamagedFileError as error:
        notice(f"{error}. The teacher's answers are computed again.")
    try:
        answers = compute_answers(network, samples, augmentation, task, on_view=on_view)
    except NonFiniteLossError as error:
        raise RequestError(f"{name}: {error}; {remedy}") from error
    write_tensors(path, {"logits": answers.relative, "maximum": answers.maximum}, about=wanted)
    return answers


def below_maximum(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Split float32 logits (..., C) into float16 differences to the maximum of their row, and these maxima (...)."""
    maximum = logits.amax(dim=-1)
    difference = (logits - maximum[..., None]).clamp(min=_LEAST)
    # a small difference must not round to 0, because only the best class has 0
    return torch.where(difference < 0, difference.clamp(max=-_TINY), difference).half(), maximum


def _logits(network: nn.Module, batch: Batch, task: Task, logits: Callable[[Batch], Tensor] | None = None) -> Tensor:
    return (logits or task.logits)(named_outputs(network(*batch.values()), task.signature.output_names))


def _read(path: Path, wanted: Mapping[str, str]) -> Answers | None:
    """Read stored answers; None if they have another identity. DamagedFileError for other tensors."""
    file = read_tensors(path)
    if file.about != wanted:
        return None
    relative, maximum = file.tensors.get("logits"), file.tensors.get("maximum")
    if relative is None or maximum is None or relative.shape[:-1] != maximum.shape or relative.dtype != torch.float16:
        raise DamagedFileError(f"{path} holds other tensors than answers")
    return Answers(relative=relative, maximum=maximum)


def _is_current(stored: Answers, network: nn.Module, samples: Split, augmentation: Augmentation, task: Task) -> bool:
    """True if the network still returns the stored logits, for samples spread over all samples and views.

    The code of a user's module may change while its weights stay.
    """
    count, device = len(samples), device_of(samples.inputs)
    if stored.maximum.shape[:2] != (augmentation.count, count):
        return False
    views, picked = augmentation.over(samples.inputs), torch.arange(PROBE)
    index = picked * count // PROBE
    # every view has samples of the whole split, unless there are more views than samples to compare
    view = picked % augmentation.count if augmentation.count <= PROBE else picked * augmentation.count // PROBE
    fresh, kept = [], []
    network.eval()
    with torch.inference_mode(), kept_random_states(device):
        for number in sorted(set(view.tolist())):
            rows = index[view == number]
            fresh.append(_logits(network, views.batch(rows.to(device), number), task).float().cpu())
            kept.append((stored.relative[number, rows], stored.maximum[number, rows]))
    below, best = below_maximum(torch.cat(fresh))
    expected, maximum = (torch.cat(each) for each in zip(*kept, strict=True))
    if below.shape != expected.shape:
        return False
    allowed = CLOSE * below.float().abs().max() + ROUNDING * best.abs().max()
    differences = ((below.float() - expected.float()).abs().max(), (best - maximum).abs().max())
    return all(bool(difference <= allowed) for difference in differences)


def _on(answers: Answers, samples: Split) -> Answers:
    device = device_of(samples.inputs)
    return Answers(relative=answers.relative.to(device), maximum=answers.maximum.to(device))
