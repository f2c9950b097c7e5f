"""Forward passes of networks with early exits over whole splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from nas_compress.models.exits.network import EarlyExits
from nas_compress.tasks.batch import by_length, fitting, unpadded

BATCH = 512
"""Samples per forward pass, or fewer large ones."""

NAME = "samples"


def exit_answers(network: EarlyExits, samples: Tensor, *, padded: bool = False) -> list[Tensor]:
    """Return the answers (N, K) of every exit to all samples, those of the end last.

    padded: samples are token ids with padding; batches then have samples of similar lengths.
    """
    return _over_all(network.answers, samples, padded=padded)


def exits_taken(network: EarlyExits, samples: Tensor, *, padded: bool = False) -> tuple[Tensor, Tensor]:
    """Return the answers (N, K) of a network and the exit of each sample (N,). padded: see `exit_answers`."""
    answers, exits = _over_all(network, samples, padded=padded)
    return answers, exits


def batches(samples: Tensor, *, padded: bool) -> Iterator[Tensor]:
    """Split samples into batches, without positions that are padding in a whole batch."""
    for batch in torch.split(samples, fitting({NAME: samples}, BATCH)):
        yield unpadded({NAME: batch}, [NAME])[NAME] if padded else batch


def _over_all(run: Callable[[Tensor], Sequence[Tensor]], samples: Tensor, *, padded: bool) -> list[Tensor]:
    ordered, places = by_length({NAME: samples}, [NAME] if padded else [])
    with torch.no_grad():
        parts = [run(batch) for batch in batches(ordered[NAME], padded=padded)]
    return [torch.cat(each)[places] for each in zip(*parts, strict=True)]
