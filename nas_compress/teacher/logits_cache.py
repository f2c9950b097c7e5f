"""The teacher's logits for every training sample in every view, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas_compress.data.augmentation import Views
from nas_compress.data.dataset import Split
from nas_compress.files import write_atomically
from nas_compress.training.memory import keep_freed_memory

BATCH = 256
"""Samples that pass through the network at once: twice as many leave the processor's cache and take longer."""

PROBE = 64
"""Samples whose kept answers are compared with fresh ones."""


def compute_answers(
    network: nn.Module, samples: Split, views: Views, *, on_view: Callable[[int, int], None] | None = None
) -> Tensor:
    """Logits as float16 (views, N, classes) on the samples' device; the network runs in eval mode without gradients."""
    keep_freed_memory()
    network.eval()
    padded = views.pad(samples.inputs)
    answers = []
    with torch.inference_mode():
        for view in range(views.count):
            parts = [network(views.apply(part, view)).half() for part in torch.split(padded, BATCH)]
            answers.append(torch.cat(parts))
            if on_view is not None:
                on_view(view + 1, views.count)
    return torch.stack(answers)


def cached_answers(
    path: Path,
    network: nn.Module,
    samples: Split,
    views: Views,
    *,
    on_view: Callable[[int, int], None] | None = None,
) -> Tensor:
    """The answers from `path` where they are this network's, else computed and written there."""
    kept = _read(path)
    if kept.shape[:2] == (views.count, len(samples)) and _still_hold(kept, network, samples):
        return kept.to(samples.inputs.device)
    answers = compute_answers(network, samples, views, on_view=on_view)
    stored = {"logits": answers.cpu().contiguous()}
    write_atomically(path, lambda temporary: save_file(stored, temporary))
    return answers


def _read(path: Path) -> Tensor:
    try:
        return load_file(path)["logits"]
    except (SafetensorError, KeyError, OSError):  # not there, cut off, or another file
        return torch.empty(0)


def _still_hold(kept: Tensor, network: nn.Module, samples: Split) -> bool:
    """Whether the network gives the first samples' answers: a user's module may change while its weights stay."""
    with torch.inference_mode():
        fresh = network.eval()(samples.inputs[:PROBE]).float().cpu()
    expected = kept[0, :PROBE].float()
    return fresh.shape == expected.shape and bool((fresh - expected).abs().max() <= 0.01 * fresh.abs().max())
