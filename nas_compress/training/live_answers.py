"""Logits of teachers, computed for each batch instead of read from memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas_compress.tasks.batch import Batch, named_outputs
from nas_compress.tasks.task import Task


class LiveAnswers:
    """The logits of one network (B, ..., C), or of several networks (B, members, ..., C) or their mean.

    networks: on the samples' device; they are put into eval mode. averaged: return the mean of their logits.
    """

    def __init__(self, networks: Sequence[nn.Module], task: Task, *, averaged: bool = False) -> None:
        self._networks, self._task, self._averaged = [network.eval() for network in networks], task, averaged

    def __call__(self, batch: Batch) -> Tensor:
        """Return the logits for a batch, without gradients."""
        names = self._task.signature.output_names
        with torch.no_grad():
            each = [self._task.logits(named_outputs(network(*batch.values()), names)) for network in self._networks]
            if len(each) == 1:
                return each[0].float()
            together = torch.stack(each, dim=1).float()
            return together.mean(dim=1) if self._averaged else together
