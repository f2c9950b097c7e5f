"""How often a torch network is right: for decisions during training. Figures of results come from the file."""

from __future__ import annotations

import torch
from torch import nn

from nas_compress.data.dataset import Split
from nas_compress.tasks.batch import device_of, rows
from nas_compress.training.runtime import mixed_precision

BATCH = 512
"""Samples at once: bounds the memory."""


def module_accuracy(model: nn.Module, samples: Split) -> float:
    """The fraction of samples, uint8 (N, C, H, W) on the model's device, whose largest logit is that of their label.

    The model is in eval mode meanwhile and in the mode that it had afterwards; no random numbers are drawn.
    """
    was_training = model.training
    right = torch.zeros((), dtype=torch.int64, device=device_of(samples.targets))
    try:
        model.eval()
        with torch.no_grad(), mixed_precision(device_of(samples.inputs)):
            for start in range(0, len(samples), BATCH):
                answers = model(*rows(samples.inputs, start, start + BATCH).values()).argmax(dim=1)
                right += (answers == samples.targets["label"][start : start + BATCH]).sum()
    finally:
        model.train(was_training)
    return float(right) / len(samples)
