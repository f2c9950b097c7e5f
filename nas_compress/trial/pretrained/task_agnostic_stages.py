"""Stages of a training: one, or features and then labels for a task-agnostic student."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas_compress.losses.table import TERMS
from nas_compress.values.candidate import Candidate, Precision, Sparsity, Teaching


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a training, with the candidate as far as it counts in that part. frozen: only the head learns."""

    candidate: Candidate
    epochs: int
    frozen: bool = False


def stages_of(candidate: Candidate, epochs: int) -> tuple[Stage, ...]:
    """Return the stages of `epochs` epochs.

    A task-agnostic student learns features in float first, for a whole number of epochs that leaves one for labels.
    """
    teaching = candidate.teaching
    if teaching.distilled is None:
        return (Stage(candidate=candidate, epochs=epochs),)
    first = max(1, min(epochs - 1, round(teaching.distilled * epochs)))
    on_teacher = tuple(term for term in candidate.losses if TERMS[term.name].needs_teacher)
    on_labels = tuple(term for term in candidate.losses if not TERMS[term.name].needs_teacher)
    float_body = replace(candidate, losses=on_teacher, precision=Precision(), sparsity=Sparsity())
    head = replace(candidate, losses=on_labels, teaching=Teaching())
    return (
        Stage(candidate=float_body, epochs=first),
        Stage(candidate=head, epochs=epochs - first, frozen=teaching.body == "frozen"),
    )


@contextmanager
def body_still(network: nn.Module, still: bool) -> Iterator[None]:
    """Let only parameters of modules named `...head` learn, if `still`; the body keeps its statistics too."""
    parameters = [each for name, each in network.named_parameters() if still and not _in_head(name)]
    norms = [module for module in network.modules() if still and isinstance(module, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for parameter in parameters:
        parameter.requires_grad_(False)
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


def _in_head(name: str) -> bool:
    return name.split(".")[0].endswith("head")
