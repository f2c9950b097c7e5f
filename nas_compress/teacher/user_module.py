"""A user's module as the teacher: `factory = "module:callable"` and its weights."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.errors import RequestError, describe, require_known
from nas_compress.models.features import watch
from nas_compress.tasks.batch import Batch, count
from nas_compress.tasks.task import Task
from nas_compress.teacher.plain_module import plain_module
from nas_compress.teacher.state_dict import find_state
from nas_compress.teacher.store import Notice
from nas_compress.teacher.weights_file import find_weights, read_checkpoint
from nas_compress.user_code import user_callable
from nas_compress.values.signature import TensorSpec


def build_own_module(factory: str, *, folder: Path, batch: Batch, label: str) -> nn.Module:
    """Build the user's module in float32 without its weights and without wrappers; RequestError if the factory fails.

    batch: samples that initialise lazy layers.
    """
    with user_callable(factory, folder=folder, where=f"{label}: teacher.factory") as build:
        try:
            module = build()
        except Exception as error:
            raise RequestError(
                f"{label}: teacher.factory must build a module, but {factory} raised {describe(error)}"
            ) from error
    if not isinstance(module, nn.Module):
        raise RequestError(
            f"{label}: teacher.factory must return a torch.nn.Module, but {factory} returned {type(module).__name__}"
        )
    try:
        return plain_module(module, batch)
    except Exception as error:
        raise RequestError(
            f"{label}: teacher.factory must build a module whose lazy layers take raw samples, {_samples(batch)}, "
            f"but it raised {describe(error)}"
        ) from error


def load_own_teacher(
    factory: str,
    weights: str,
    *,
    folder: Path,
    task: Task,
    batch: Batch,
    label: str,
    weights_key: str | None = None,
    features: Sequence[str] = (),
    notice: Notice = lambda line: None,
) -> nn.Module:
    """Build the user's module, load its weights, and check its outputs for a few raw samples.

    Weights of other float types become float32.

    batch: inputs of the samples. weights_key: of the state dict in the file, None for a search. features: submodules
    that must return a tensor with one row per sample. notice: receives a line if the weights have another key or prefix
    than the module. Every mistake is a RequestError of one line.
    """
    module = build_own_module(factory, folder=folder, batch=batch, label=label)
    note = _load_weights(module, find_weights(folder, weights, label), weights_key, label)
    if note:
        notice(f"{label}: {note}")
    module.eval()
    try:
        with torch.no_grad():
            returned: Any = module(*batch.values())
    except Exception as error:
        raise RequestError(
            f"{label}: the teacher must take raw samples, {_samples(batch)}, but it raised "
            f"{describe(error)}{_hint(error)}"
        ) from error
    _check_outputs(returned, task, count(batch), label)
    _check_features(module, features, batch, task, label)
    return module


def _samples(batch: Batch) -> str:
    return ", ".join(f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}" for value in batch.values())


def _check_outputs(returned: Any, task: Task, samples: int, label: str) -> None:
    """Require the outputs of the signature: a tensor, or a tuple in order."""
    specs = task.signature.outputs
    outputs = list(returned) if isinstance(returned, tuple) else [returned]
    fits = len(outputs) == len(specs) and all(map(_fits, outputs, specs, itertools.repeat(samples)))
    if not fits:
        wanted = ", ".join(f"{spec.name} ({', '.join(map(str, spec.shape))})" for spec in specs)
        found = ", ".join(
            str(tuple(each.shape)) if isinstance(each, Tensor) else type(each).__name__ for each in outputs
        )
        raise RequestError(f"{label}: the teacher must return {wanted}, but it returned {found}")
    for output, spec in zip(outputs, specs, strict=True):
        if output.dtype != getattr(torch, spec.dtype):
            raise RequestError(
                f"{label}: the teacher must return {spec.name} as {spec.dtype}, but it returned "
                f"{str(output.dtype).removeprefix('torch.')}; end its forward with .to(torch.{spec.dtype})"
            )


def _hint(error: Exception) -> str:
    """Return the way out of a mixture of float32 weights and half-precision inputs."""
    if not re.search(r"Half|BFloat16|float16", str(error)):
        return ""
    return (
        "; its weights are converted to float32, so forward must not cast samples to a fixed half type, but to the "
        "type of its weights"
    )


def _fits(output: Any, spec: TensorSpec, samples: int) -> bool:
    if not isinstance(output, Tensor) or output.ndim != len(spec.shape) or len(output) != samples:
        return False
    pairs = zip(output.shape[1:], spec.sample_shape, strict=True)
    return all(isinstance(size, str) or actual == size for actual, size in pairs)


def _check_features(module: nn.Module, features: Sequence[str], batch: Batch, task: Task, label: str) -> None:
    """Require that the named submodules exist, are called, and return vectors, tokens or maps."""
    known = [name for name, _ in module.named_modules() if name]
    for name in features:
        require_known("an entry of teacher.features", name, known, where=label)
    with torch.no_grad():
        given: Mapping[str, Any] = watch(module, batch, features, outputs=task.signature.output_names).features
    for name in features:
        value = given.get(name)
        if not isinstance(value, Tensor) or value.ndim not in (2, 3, 4) or len(value) != count(batch):
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            told = f"gives {found}" if name in given else "is not called"
            raise RequestError(
                f"{label}: teacher.features must name modules that give a tensor of 2, 3 or 4 dimensions, "
                f"{count(batch)} rows for {count(batch)} samples, but {name!r} {told}"
            )


def _load_weights(module: nn.Module, path: Path, key: str | None, label: str) -> str:
    """Load the weights of a file into the module; return a note about the names that were changed for it."""
    own = module.state_dict()
    wanted = {name: tuple(value.shape) for name, value in own.items() if isinstance(value, Tensor)}
    checkpoint = read_checkpoint(path, label)
    found = find_state(checkpoint, wanted, key=key, name=path.name, label=label)
    extra = own.keys() - wanted.keys()
    if not extra <= checkpoint.keys():
        lacking = min(extra - checkpoint.keys())
        raise RequestError(f"{label}: teacher.weights must fit the module, but {path.name} has no {lacking}")
    # every name was compared, except counters, which may be missing
    module.load_state_dict({**found.state, **{name: checkpoint[name] for name in extra}}, strict=False)
    return found.note
