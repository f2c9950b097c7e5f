"""Store of trained networks (teachers, ensemble members, assistants) with their earlier checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from nas_compress.data.augmentation import Augmentation
from nas_compress.data.dataset import Split
from nas_compress.errors import NonFiniteLossError, RequestError, RunError
from nas_compress.files import write_atomically
from nas_compress.models.families import build_student
from nas_compress.tasks.batch import device_of
from nas_compress.training.loop import train
from nas_compress.training.objective import TrainingObjective
from nas_compress.values.architecture import Architecture
from nas_compress.values.teaching import CHECKPOINTS


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of one training."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int


def stored_or_trained(
    architecture: Architecture,
    folder: Path,
    *,
    checkpoint: float,
    objective: Callable[[], TrainingObjective],
    training: Training,
    samples: Split,
    augmentation: Augmentation,
    label: str,
    on_epoch: Callable[[int, int], None],
) -> nn.Module:
    """Return the network after the fraction `checkpoint` of its training, on the samples' device.

    Read it from `folder` if stored there; otherwise train it now and store every checkpoint. RequestError if a loss
    becomes infinite or nan.
    """
    network = _stored(folder / _file(checkpoint), architecture)
    if network is not None:
        return network.to(device_of(samples.inputs))
    torch.manual_seed(training.seed)
    network = build_student(architecture).to(device_of(samples.inputs))

    def after(done: int) -> None:
        for fraction in CHECKPOINTS:
            if max(1, round(fraction * training.epochs)) == done:
                _store(network, folder / _file(fraction))
        on_epoch(done, training.epochs)

    try:
        train(
            network,
            samples,
            augmentation,
            objective=objective(),
            epochs=training.epochs,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            seed=training.seed,
            on_epoch=lambda done, terms: after(done),
        )
    except NonFiniteLossError as error:
        raise RequestError(
            f"{label}: the teacher must learn, but with teacher.learning_rate={training.learning_rate:g}: {error}"
        ) from error
    if checkpoint == 1:
        return network
    earlier = _stored(folder / _file(checkpoint), architecture)
    if earlier is None:
        raise RunError(f"The stored {folder / _file(checkpoint)} cannot be read. Delete its folder and run again.")
    return earlier.to(device_of(samples.inputs))


def _file(checkpoint: float) -> str:
    return "teacher.safetensors" if checkpoint == 1 else f"teacher-{round(checkpoint * 100)}.safetensors"


def _store(network: nn.Module, path: Path) -> None:
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    write_atomically(path, lambda temporary: save_file(state, temporary))


def _stored(path: Path, architecture: Architecture) -> nn.Module | None:
    """Read the network of an earlier run; None if there is none or its file is broken."""
    if not path.is_file():
        return None
    network = build_student(architecture)
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError):
        return None
    return network
