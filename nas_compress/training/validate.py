"""Metrics of a torch network, for decisions during training. Results are measured on the exported file."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from nas_compress.data.dataset import Split
from nas_compress.tasks.batch import by_length, device_of, fitting, named_outputs, split, to_arrays, unpadded
from nas_compress.tasks.task import Task
from nas_compress.training.precision import mixed_precision

BATCH = 512
"""Samples per forward pass, at most; bounds the memory."""


def evaluate(model: nn.Module, samples: Split, task: Task) -> dict[str, float]:
    """Return the task's metrics of a network.

    samples: on the model's device. The model runs in eval mode and returns to its former mode; no random numbers are
    drawn. Within a training the products have its format.
    """
    was_training, names = model.training, task.signature.output_names
    parts, (inputs, places) = [], by_length(samples.inputs, samples.tokens)
    try:
        model.eval()
        with torch.no_grad(), mixed_precision(device_of(samples.inputs)):
            for batch in split(inputs, fitting(inputs, BATCH)):
                returned = model(*unpadded(batch, samples.tokens).values())
                parts.append(task.compact(to_arrays(named_outputs(returned, names))))
    finally:
        model.train(was_training)
    outputs = {name: np.concatenate([part[name] for part in parts])[places] for name in names}
    return task.measure(outputs, to_arrays(samples.targets))
