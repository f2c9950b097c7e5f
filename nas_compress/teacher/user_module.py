"""A user's module as the teacher: `factory = "module:callable"` and its weights."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from nas_compress.errors import RequestError, describe, require_known
from nas_compress.models.features import watch
from nas_compress.tasks.batch import Batch, count
from nas_compress.tasks.task import Task
from nas_compress.teacher.chosen_output import KEY, named_parts, shown
from nas_compress.teacher.state_dict import find_state
from nas_compress.teacher.weights_file import read_checkpoint
from nas_compress.user_code import user_callable
from nas_compress.values.signature import TensorSpec

Renaming = Callable[[Mapping[Any, Any]], Mapping[Any, Any]]
"""Gives the content of a file of weights other names."""

COMPILED = "_orig_mod"
"""Name of the module inside the result of torch.compile."""


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
    if isinstance(module, torch.jit.ScriptModule):
        raise RequestError(
            f"{label}: teacher.factory must return a module with layers of torch, but {factory} returned a TorchScript "
            "program; give its file by teacher.weights alone"
        )
    try:
        return plain_module(module, batch)
    except Exception as error:
        raise RequestError(
            f"{label}: teacher.factory must build a module whose lazy layers take raw samples, {_samples(batch)}, "
            f"but it raised {describe(error)}"
        ) from error


def run_on_samples(module: nn.Module, batch: Batch, label: str) -> Any:
    """Return the outputs of a network for raw samples; RequestError if it does not take them."""
    try:
        with torch.no_grad():
            return module(*batch.values())
    except RequestError as error:
        raise RequestError(f"{label}: {error}") from error
    except Exception as error:
        raise RequestError(
            f"{label}: the teacher must take raw samples, {_samples(batch)}, but it raised "
            f"{describe(error)}{_hint(error)}"
        ) from error


def _samples(batch: Batch) -> str:
    return ", ".join(f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}" for value in batch.values())


def check_outputs(returned: Any, task: Task, batch: Batch, label: str) -> None:
    """Require the outputs of the signature: a tensor, or a tuple in order."""
    specs, samples = task.signature.outputs, count(batch)
    outputs = list(returned) if isinstance(returned, tuple) else [returned]
    fits = len(outputs) == len(specs) and all(map(_fits, outputs, specs, itertools.repeat(samples)))
    if not fits:
        wanted = ", ".join(f"{spec.name} ({', '.join(map(str, spec.shape))})" for spec in specs)
        several = not isinstance(returned, Tensor) and len(specs) == 1 and named_parts(returned)
        way = f"; choose one by {KEY}" if several else ""
        raise RequestError(f"{label}: the teacher must return {wanted}, but it returned {shown(returned)}{way}")
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


def check_features(module: nn.Module, features: Sequence[str], batch: Batch, task: Task, label: str) -> None:
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


def load_weights_(
    module: nn.Module, paths: Sequence[Path], key: str | None, label: str, names: Renaming | None = None
) -> str:
    """Load the weights of a file, or of its parts, into the module; return a note about changed names, if any.

    key: of the state dict in the file, None for a search. names: gives the content of the files the module's names.
    """
    own = module.state_dict()
    wanted = {name: tuple(value.shape) for name, value in own.items() if isinstance(value, Tensor)}
    checkpoint = {name: value for path in paths for name, value in read_checkpoint(path, label).items()}
    checkpoint = checkpoint if names is None else dict(names(checkpoint))
    path = paths[0]
    found = find_state(checkpoint, wanted, key=key, name=path.name, label=label)
    extra = own.keys() - wanted.keys()
    if not extra <= checkpoint.keys():
        lacking = min(extra - checkpoint.keys())
        raise RequestError(f"{label}: teacher.weights must fit the module, but {path.name} has no {lacking}")
    # every name was compared, except counters, which may be missing
    module.load_state_dict({**found.state, **{name: checkpoint[name] for name in extra}}, strict=False)
    return found.note


def plain_module(module: nn.Module, batch: Batch) -> nn.Module:
    """Return the module inside DataParallel, AveragedModel and torch.compile, in float32.

    Submodules are unwrapped too. Lazy layers get their shapes from a pass over the samples of `batch`.
    """
    module = _unwrapped(module)
    for parent in list(module.modules()):
        parent._compiled_call_impl = None  # of Module.compile(), which wraps nothing
        for name, value in list(vars(parent).items()):
            if isinstance(value, Tensor) and not value.is_leaf:  # as of torch.nn.utils.weight_norm, for copies
                vars(parent)[name] = value.detach()
        for name, child in list(parent.named_children()):
            inner = _unwrapped(child)
            if inner is not child:
                setattr(parent, name, inner)
    module.float()  # students, pruning and the exported file compute in float32
    if any(map(is_lazy, itertools.chain(module.parameters(), module.buffers()))):
        training = module.training
        module.eval()
        with torch.no_grad():
            module(*batch.values())
        module.train(training)
    return module


def _unwrapped(module: nn.Module) -> nn.Module:
    while True:
        children = dict(module.named_children())
        if isinstance(module, (nn.DataParallel, DistributedDataParallel, AveragedModel)):
            module = children["module"]
        elif list(children) == [COMPILED]:
            module = children[COMPILED]
        else:
            return module
