"""Networks that are trained once and kept with their earlier checkpoints: teachers, their like, and assistants."""

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
from nas_compress.training.objective import Objective
from nas_compress.values.architecture import Architecture
from nas_compress.values.teaching import CHECKPOINTS


@dataclass(frozen=True, kw_only=True)
class Training:
    """The numbers of one training."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int


def kept_or_trained(
    architecture: Architecture,
    folder: Path,
    *,
    checkpoint: float,
    objective: Callable[[], Objective],
    training: Training,
    samples: Split,
    augmentation: Augmentation,
    label: str,
    on_epoch: Callable[[int, int], None],
) -> nn.Module:
    """The network as it was after the fraction `checkpoint` of its training, on the samples' device.

    Read from `folder` where it is kept there, else trained now, and every checkpoint of it kept. RequestError where
    it does not learn.
    """
    network = _kept(folder / _file(checkpoint), architecture)
    if network is not None:
        return network.to(device_of(samples.inputs))
    torch.manual_seed(training.seed)
    network = build_student(architecture).to(device_of(samples.inputs))

    def after(done: int) -> None:
        for fraction in CHECKPOINTS:
            if max(1, round(fraction * training.epochs)) == done:
                _keep(network, folder / _file(fraction))
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
    earlier = _kept(folder / _file(checkpoint), architecture)
    if earlier is None:
        raise RunError(f"a teacher must be kept where it was written, but {folder / _file(checkpoint)} cannot be read")
    return earlier.to(device_of(samples.inputs))


def _file(checkpoint: float) -> str:
    return "teacher.safetensors" if checkpoint == 1 else f"teacher-{round(checkpoint * 100)}.safetensors"


def _keep(network: nn.Module, path: Path) -> None:
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    write_atomically(path, lambda temporary: save_file(state, temporary))


def _kept(path: Path, architecture: Architecture) -> nn.Module | None:
    """The network of an earlier run; None where there is none or its file is broken."""
    if not path.is_file():
        return None
    network = build_student(architecture)
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError):
        return None
    return network
