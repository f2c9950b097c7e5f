"""The teacher's logits of every training sample in every view, computed once and stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas_compress.data.augmentation import Augmentation
from nas_compress.data.dataset import Split
from nas_compress.files import write_atomically
from nas_compress.tasks.batch import Batch, device_of, named_outputs, rows
from nas_compress.tasks.task import Task
from nas_compress.training.runtime import keep_freed_memory

BATCH = 256
"""Samples per forward pass; with 512 the activations leave the processor's cache and a pass takes longer."""

PROBE = 64
"""Samples whose stored logits are compared with fresh ones."""


def compute_answers(
    network: nn.Module,
    samples: Split,
    augmentation: Augmentation,
    task: Task,
    *,
    on_view: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return logits as float16 (views, N, C) on the samples' device.

    The network runs in eval mode without gradients. on_view: called with finished and planned views.
    """
    keep_freed_memory()
    network.eval()
    device, views = device_of(samples.inputs), augmentation.over(samples.inputs)
    pieces = torch.split(torch.arange(len(samples), device=device), BATCH)
    answers = []
    with torch.inference_mode():
        for view in range(augmentation.count):
            parts = [_logits(network, views.batch(piece, view), task).half() for piece in pieces]
            answers.append(torch.cat(parts))
            if on_view is not None:
                on_view(view + 1, augmentation.count)
    return torch.stack(answers)


def cached_answers(
    path: Path,
    network: nn.Module,
    samples: Split,
    augmentation: Augmentation,
    task: Task,
    *,
    on_view: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the logits stored at `path` if this network computed them; otherwise compute and store them."""
    stored = _read(path)
    if stored.shape[:2] == (augmentation.count, len(samples)) and _is_current(stored, network, samples, task):
        return stored.to(device_of(samples.inputs))
    answers = compute_answers(network, samples, augmentation, task, on_view=on_view)
    content = {"logits": answers.cpu().contiguous()}
    write_atomically(path, lambda temporary: save_file(content, temporary))
    return answers


def _logits(network: nn.Module, batch: Batch, task: Task) -> Tensor:
    return task.logits(named_outputs(network(*batch.values()), task.signature.output_names))


def _read(path: Path) -> Tensor:
    try:
        return load_file(path)["logits"]
    except (SafetensorError, KeyError, OSError):  # missing, cut off, or another file
        return torch.empty(0)


def _is_current(stored: Tensor, network: nn.Module, samples: Split, task: Task) -> bool:
    """Whether the network returns the stored logits of the first samples.

    The code of a user's module may change while its weights stay.
    """
    with torch.inference_mode():
        fresh = _logits(network.eval(), rows(samples.inputs, 0, PROBE), task).float().cpu()
    expected = stored[0, :PROBE].float()
    return fresh.shape == expected.shape and bool((fresh - expected).abs().max() <= 0.01 * fresh.abs().max())
