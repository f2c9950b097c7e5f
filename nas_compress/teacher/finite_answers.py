"""Check that a network answers every sample with finite numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_compress.data.dataset import Split
from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Batch, by_length, chosen, device_of, fitting, named_outputs, split, unpadded
from nas_compress.tasks.task import Task

OWN_REMEDY = "return logits, or their log_softmax instead of the logarithm of probabilities"
"""Way out for a user's module."""

BATCH = 256
"""Samples per forward pass; with 512 the activations leave the processor's cache and a pass takes longer."""


def require_finite_answers(
    network: nn.Module, samples: Split, task: Task, *, name: str, remedy: str, at_most: int | None = None
) -> None:
    """Raise RequestError if an output of the network is infinite or nan for a sample.

    samples: on the network's device. name, remedy: of the network, for the error text. at_most: number of samples,
    spread over the split; None for all.
    """
    inputs, count = samples.inputs, len(samples)
    if at_most is not None and at_most < count:
        index = torch.linspace(0, count - 1, at_most, device=device_of(inputs)).long()
        inputs, count = chosen(inputs, index), at_most
    inputs, _ = by_length(inputs, samples.tokens)
    network.eval()
    with torch.inference_mode():
        batches = (unpadded(batch, samples.tokens) for batch in split(inputs, fitting(inputs, BATCH)))
        broken = sum(_broken(network, batch, task) for batch in batches)
    if broken:
        raise RequestError(f"{name}: {finite_rule(broken, count, samples.name)}; {remedy}")


def finite_rule(broken: int, count: int, split_name: str) -> str:
    """Return the rule and the number of samples that break it."""
    return f"the answers must be finite, but {broken} of {count} {split_name} samples have inf or nan"


def finite_rows(values: Tensor) -> Tensor:
    """Return for each row of (N, ...) if all its numbers are finite."""
    return torch.isfinite(values).flatten(1).all(dim=1)


def _broken(network: nn.Module, batch: Batch, task: Task) -> int:
    outputs = named_outputs(network(*batch.values()), task.signature.output_names)
    finite = torch.stack([finite_rows(output) for output in outputs.values()]).all(dim=0)
    return int((~finite).sum())
