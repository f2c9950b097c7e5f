"""Store of trained networks (teachers, ensemble members, assistants) with their earlier checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.callbacks import Notice
from nas_compress.data.augment.protocol import Augmentation
from nas_compress.data.dataset import Split
from nas_compress.errors import DamagedFileError, NonFiniteLossError, RequestError, UnfitCheckpointError
from nas_compress.files import read_sealed_json, write_sealed_json
from nas_compress.models.families import build_student
from nas_compress.models.macs import count_macs
from nas_compress.tasks.batch import device_of, token_lengths, unpadded
from nas_compress.teacher.pretrained.upper_layers import training_part
from nas_compress.teacher.tensor_file import digest_of_tensors, load_weights_, read_tensors, write_tensors
from nas_compress.training.checkpoint import Checkpoint
from nas_compress.training.loop import train
from nas_compress.training.objective import TrainingObjective
from nas_compress.training.precision import Precision, Products, products_of
from nas_compress.training.random_state import kept_random_states, seed_all
from nas_compress.values.architecture import Architecture
from nas_compress.values.teaching import CHECKPOINTS

ORIGIN = "teacher.json"
"""Name of the file with a network's fingerprint and the values that decided it."""

INTERRUPTED = "interrupted.pt"
"""Name of the file with the state of an unfinished training, from which the next process continues."""

PRODUCTS = "products"
"""Key of the format of the products in a network's training, in its file and in ORIGIN."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of one training. precision: see `TrainingSection`. draws: see `training.loop.train`."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int
    precision: Precision = "auto"
    draws: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Start:
    """Another start of a training than fresh weights.

    prepare: changes a built network before any weights are loaded. load: loads the weights of the start. upper: number
    of encoder layers that learn; None for all.
    """

    prepare: Callable[[nn.Module], None]
    load: Callable[[nn.Module], None]
    upper: int | None


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
    notice: Notice,
    start: Start | None = None,
) -> nn.Module:
    """Return the network after the fraction `checkpoint` of its training, on the samples' device.

    The network is read from `folder`. If it is missing or damaged there, it is trained, every checkpoint is stored, and
    the stored one is read: a network has the same bits in the process that trained it and in all others. The random
    state is the same afterwards too. RequestError if a loss or weight becomes infinite or nan.

    notice: receives a line about a damaged file. start: see `Start`.
    """
    path, device = folder / weights_file(checkpoint), device_of(samples.inputs)
    with kept_random_states(device):
        network = build_student(architecture)
        if start is not None:
            start.prepare(network)
        try:
            load_weights_(network, path)
        except FileNotFoundError:
            pass
        except DamagedFileError as error:
            notice(f"{error}. The network is trained again.")
            (folder / INTERRUPTED).unlink(missing_ok=True)  # a whole training may have left its last state
        else:
            return network.to(device)
        attempt = partial(
            _train_and_store,
            architecture,
            folder,
            objective=objective,
            training=training,
            samples=samples,
            augmentation=augmentation,
            label=label,
            on_epoch=on_epoch,
            notice=notice,
            start=start,
        )
        try:
            attempt()
        except UnfitCheckpointError as error:
            notice(f"{error}. The network is trained from its first epoch.")
            (folder / INTERRUPTED).unlink(missing_ok=True)
            attempt()
        load_weights_(network, path)
        return network.to(device)


def weights_file(checkpoint: float = 1.0) -> str:
    """Return the name of the file with a network after this fraction of its training."""
    return "teacher.safetensors" if checkpoint == 1 else f"teacher-{round(checkpoint * 100)}.safetensors"


def describe_stored(folder: Path, values: Mapping[str, Any], notice: Notice) -> None:
    """Write the origin of a stored network to ORIGIN, unless the file holds it already."""
    path = folder / ORIGIN
    try:
        if read_sealed_json(path) == dict(values):
            return
    except FileNotFoundError:
        pass
    except DamagedFileError as error:
        notice(f"{error}. It is written again.")
    write_sealed_json(path, values)


def stored_format(folder: Path) -> dict[str, str]:
    """Return `products`, the format of a stored network's training, unless it is float32 or no network is there."""
    try:
        about = read_tensors(folder / weights_file()).about
    except FileNotFoundError:
        return {}
    return {PRODUCTS: about[PRODUCTS]} if PRODUCTS in about else {}


def keep_weights(network: nn.Module, path: Path, notice: Notice) -> None:
    """Write the weights of a network to `path`, unless the file holds them already."""
    state = network.state_dict()
    try:
        if digest_of_tensors(read_tensors(path).tensors) == digest_of_tensors(state):
            return
    except FileNotFoundError:
        pass
    except DamagedFileError as error:
        notice(f"{error}. It is written again.")
    write_tensors(path, state)


def _train_and_store(
    architecture: Architecture,
    folder: Path,
    *,
    objective: Callable[[], TrainingObjective],
    training: Training,
    samples: Split,
    augmentation: Augmentation,
    label: str,
    on_epoch: Callable[[int, int], None],
    notice: Notice,
    start: Start | None,
) -> None:
    """Train a network and store it at every checkpoint. An interrupted training continues after its last epoch."""
    seed_all(training.seed)
    network = build_student(architecture)
    if start is not None:
        start.prepare(network)
        start.load(network)
    network.to(device_of(samples.inputs))
    wrong = f"{label}: the teacher must learn, but with teacher.learning_rate={training.learning_rate:g}"

    ended = 0

    def after(done: int, products: Products) -> None:
        nonlocal ended
        about = {} if products == "float32" else {PRODUCTS: products}
        for fraction in CHECKPOINTS:
            if _epochs_to(fraction, training) == done:
                state = network.state_dict()
                if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
                    raise RequestError(f"{wrong} a weight is infinite or nan after epoch {done}")
                write_tensors(folder / weights_file(fraction), state, about=about)
        for each in range(ended + 1, done + 1):  # with those of an interrupted process
            on_epoch(each, training.epochs)
        ended = done

    try:
        with training_part(network, samples, None if start is None else start.upper) as part:
            products = _products(part.network, part.samples, training)
            train(
                part.network,
                part.samples,
                augmentation,
                objective=objective(),
                epochs=training.epochs,
                batch_size=training.batch_size,
                learning_rate=training.learning_rate,
                weight_decay=training.weight_decay,
                seed=training.seed,
                draws=training.draws,
                products=products,
                checkpoint=_checkpoint(folder, training, products, notice),
                on_epoch=lambda done, terms: after(done, products),
            )
    except NonFiniteLossError as error:
        raise RequestError(f"{wrong}: {error}") from error
    (folder / INTERRUPTED).unlink(missing_ok=True)


def _epochs_to(fraction: float, training: Training) -> int:
    """Return the number of epochs before the network of a fraction is stored."""
    return max(1, round(fraction * training.epochs))


def _checkpoint(folder: Path, training: Training, products: Products, notice: Notice) -> Checkpoint:
    """Return the checkpoint of a training in a folder, which is that of one network and its data.

    A stored state counts only if the networks of all earlier fractions can be read.
    """
    identity: dict[str, str | int] = {"training": repr(replace(training, draws=None)), "products": products}
    read = partial(Checkpoint, path=folder / INTERRUPTED, identity=identity, notice=notice)
    found = read()
    try:
        for fraction in CHECKPOINTS:
            if _epochs_to(fraction, training) <= found.reached:
                read_tensors(folder / weights_file(fraction))
    except (FileNotFoundError, DamagedFileError):
        (folder / INTERRUPTED).unlink(missing_ok=True)
        return read()
    return found


def _products(network: nn.Module, samples: Split, training: Training) -> Products:
    """Return the format of a training; a sample of the median length counts."""
    device = device_of(samples.inputs)
    middle = torch.zeros(1, dtype=torch.int64, device=device)
    if samples.tokens:
        middle = token_lengths(samples.inputs, samples.tokens).argsort(stable=True)[len(samples) // 2].reshape(1)
    sample = unpadded(samples.at(middle).inputs, samples.tokens)
    macs = count_macs(network, sample) * min(training.batch_size, len(samples))
    return products_of(training.precision, device, batch_macs=macs)
