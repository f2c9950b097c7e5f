"""A user's module as the teacher: `factory = "module:callable"` and its weights."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nas_compress.errors import RequestError, describe, require_known
from nas_compress.models.features import watch
from nas_compress.tasks.batch import Batch, count
from nas_compress.tasks.task import Task
from nas_compress.user_code import user_callable
from nas_compress.values.signature import TensorSpec


def build_own_module(factory: str, *, folder: Path, label: str) -> nn.Module:
    """Build the user's module in float32 without its weights; RequestError if the factory fails."""
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
    return module.float()  # students, pruning and the exported file compute in float32


def load_own_teacher(
    factory: str,
    weights: str,
    *,
    folder: Path,
    task: Task,
    batch: Batch,
    label: str,
    features: Sequence[str] = (),
) -> nn.Module:
    """Build the user's module, load its weights, and check its outputs for a few raw samples.

    Weights of other float types become float32.

    batch: inputs of the samples. features: submodules that must return a tensor with one row per sample. Every mistake
    is a RequestError of one line.
    """
    module = build_own_module(factory, folder=folder, label=label)
    _load_weights(module, _weights_file(folder, weights, label), label)
    module.eval()
    try:
        with torch.no_grad():
            returned: Any = module(*batch.values())
    except Exception as error:
        taken = ", ".join(f"{spec.dtype} {tuple(batch[spec.name].shape)}" for spec in task.signature.inputs)
        raise RequestError(
            f"{label}: the teacher must take raw samples, {taken}, but it raised {describe(error)}{_hint(error)}"
        ) from error
    _check_outputs(returned, task, count(batch), label)
    _check_features(module, features, batch, task, label)
    return module


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


def _weights_file(folder: Path, weights: str, label: str) -> Path:
    """Return the path of the weights, searched in `folder` and then in the working folder, as modules are."""
    first, last = folder / weights, Path.cwd() / weights
    for path in (first, last):
        if path.is_file():
            return path
    also = "" if last.resolve() == first.resolve() else f" and neither is {last}"
    raise RequestError(f"{label}: teacher.weights must be a file, but {first} is none{also}")


def _load_weights(module: nn.Module, path: Path, label: str) -> None:
    state = _state_dict(path, label)
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}
    wrong = [
        f"{name} {given.get(name, 'missing')} for {wanted.get(name, 'nothing')}"
        for name in sorted(wanted.keys() | given.keys())
        if wanted.get(name) != given.get(name)
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise RequestError(
            f"{label}: teacher.weights must fit the module, but {path.name} has {', '.join(wrong[:3])}{more}"
        )
    module.load_state_dict(state)


def _unpickled(path: Path) -> Any:
    """Read tensors and plain values from a pickle; any other object in it is an UnpicklingError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about other versions of pickle: the error that follows is enough
        return torch.load(path, "cpu", weights_only=True)


def _state_dict(path: Path, label: str) -> Mapping[str, Any]:
    rule = f"{label}: teacher.weights must hold a state dict, but {path}"
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except UnpicklingError as error:  # its text recommends weights_only=False, which would run code of the file
        raise RequestError(
            f"{rule} holds code or other objects than tensors, or is damaged; save the state dict as .safetensors"
        ) from error
    except Exception as error:  # both raise many types for other files
        raise RequestError(f"{rule} does not: {describe(error)}") from error
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise RequestError(f"{rule} holds a {type(state).__name__}")
    return state
