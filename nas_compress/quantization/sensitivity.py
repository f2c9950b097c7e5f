"""Sensitivity of a trained network's output to few bits in one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.quantization import arithmetic
from nas_compress.quantization.calibration import BATCH
from nas_compress.quantization.find_weights import find_weights
from nas_compress.quantization.parametrized import replaced
from nas_compress.tasks.batch import Batch, fitting, named_outputs, split
from nas_compress.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Sensitivity of one layer.

    layer: path. position: from 0 (first) to 1 (last).
    divergence: mean over the samples; in nats if the task has classes.
    """

    layer: str
    position: float
    divergence: float


@torch.no_grad()
def layer_sensitivities(network: nn.Module, samples: Batch, task: Task, *, bits: int) -> tuple[Sensitivity, ...]:
    """Measure the divergence from the float network's outputs for each layer.

    Kullback-Leibler divergence of the classes; mean squared error of all outputs if the task has no classes.

    One layer at a time is rounded to `bits` bits at the scale of least squared error, and restored after a pass over
    the samples, also after an error. Wang et al. 2019 (arXiv 1811.08886) and Dong et al. 2019 (arXiv 1905.03696) use it
    as a baseline for mixed precision.

    network: in evaluation mode.
    samples: inputs on the network's device.
    """
    expected = _outputs(network, samples, task)
    weights = find_weights(network, samples)
    found = []
    for number, weight in enumerate(weights):
        own = weight.tensor.detach()
        scale = arithmetic.nearest_scale(own, bits)
        few = arithmetic.quantize_weights(own, scale, bits) * arithmetic.per_channel(scale, own.dim())
        with replaced(weight.module, weight.name, few):
            rounded = _outputs(network, samples, task)
        divergence = _divergence(expected, rounded, task)
        found.append(Sensitivity(layer=weight.layer, position=number / max(1, len(weights) - 1), divergence=divergence))
    return tuple(found)


def divergence_by_layer(layers: Sequence[str], sensitivities: Sequence[Sensitivity]) -> dict[str, float]:
    """Divergence of each layer of another network; a layer without a sensitivity takes that at its relative depth.

    Without sensitivities all are 0.
    """
    if not sensitivities:
        return dict.fromkeys(layers, 0.0)
    known = {each.layer: each.divergence for each in sensitivities}
    positions, values = [each.position for each in sensitivities], [each.divergence for each in sensitivities]
    last = max(1, len(layers) - 1)
    return {
        layer: known.get(layer, float(np.interp(number / last, positions, values)))
        for number, layer in enumerate(layers)
    }


def _outputs(network: nn.Module, samples: Batch, task: Task) -> dict[str, Tensor]:
    """Every output for all samples."""
    names = task.signature.output_names
    parts = [named_outputs(network(*batch.values()), names) for batch in split(samples, fitting(samples, BATCH))]
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def _divergence(expected: Batch, found: Batch, task: Task) -> float:
    if task.classes is None:
        errors = [F.mse_loss(found[name].float(), expected[name].float()) for name in expected]
        return float(torch.stack(errors).sum())
    wanted, given = (F.log_softmax(task.logits(outputs).float(), dim=1) for outputs in (expected, found))
    return float((wanted.exp() * (wanted - given)).sum(dim=1).mean())
