"""Early exits of a trained student: their classifiers, fitted to its frozen features, and their thresholds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nas_compress.data.dataset import Dataset
from nas_compress.errors import RequestError
from nas_compress.measurement.exit_use import ExitAnswers
from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.models.exits.fitting import fit_exits_
from nas_compress.models.exits.network import EarlyExits, ExitHead, exit_bits, first_input
from nas_compress.models.features import OneInputNetwork
from nas_compress.quantization.quantize import quantize
from nas_compress.quantization.training_aware import make_aware_
from nas_compress.tasks.batch import Batch, chosen, device_of, rows, to_device
from nas_compress.trial.context import TrialContext
from nas_compress.trial.shape import fresh_networks
from nas_compress.values.candidate import Candidate
from nas_compress.values.exits.settings import Exits
from nas_compress.values.outcome import Measured
from nas_compress.values.precision import END_BITS

FIT_SAMPLES = 16_384
"""Training samples for the fit of the exits, at equal distances."""


def exit_layer_bits(candidate: Candidate, layer_bits: Mapping[str, int]) -> dict[str, int]:
    """Return the weight bits of a student with exits, whose classifiers have the bits of the last layer.

    layer_bits: of the student without exits.
    """
    if candidate.exits is None:
        return dict(layer_bits)
    precision = candidate.precision
    end = precision.quantization.end_bits if precision.weight_bits <= END_BITS else precision.weight_bits
    return exit_bits(layer_bits, candidate.exits, end_bits=end)


def fresh_heads(student: nn.Module, exits: Exits, context: TrialContext, *, seed: int) -> list[ExitHead]:
    """Return untrained classifiers for the exits of a student on the training device; the random state is restored."""
    sample = first_input(rows(context.validation.inputs, 0, 2), device=str(context.device))
    (network,) = fresh_networks(lambda: EarlyExits(student, exits, sample=sample), 1, seed=seed)
    return [head.to(context.device) for head in network.modules() if isinstance(head, ExitHead)]


def with_fitted_exits(
    student: nn.Module, candidate: Candidate, layer_bits: Mapping[str, int], context: TrialContext, *, watch: Stopwatch
) -> EarlyExits:
    """Return the trained student with exits, on the CPU, fitted to the features of its quantized form.

    layer_bits: of the student without exits.
    """
    if candidate.exits is None:
        raise ValueError("the candidate has no exits")
    network = EarlyExits(student.cpu().eval(), candidate.exits, sample=first_input(context.calibration))
    precision = candidate.precision
    with watch.stage("exits"):
        frozen = quantize(
            student,
            weight_bits=precision.weight_bits,
            activation_bits=precision.activation_bits,
            calibration=context.calibration,
            weight_format=precision.quantization.weight_format,
            ranges=precision.quantization.ranges,
            layer_bits=layer_bits,
        )
        if not isinstance(frozen, OneInputNetwork):
            raise RequestError(f"exits need a network with stages or layers, but got {type(frozen).__name__}")
        samples, labels = _fit_samples(context.dataset, candidate.exits)
        fit_exits_(network, frozen, samples, labels, padded=bool(context.dataset.train.tokens))
        if precision.quantization.is_trained:
            _make_exits_aware_(network, frozen, candidate, context.calibration)
    return network


def set_thresholds_(
    network: nn.Module, *, exits: Exits, cost: Measured, context: TrialContext, watch: Stopwatch
) -> None:
    """Set the thresholds of a quantized network for the stated loss of accuracy on the validation split.

    cost: of the untrained file.
    """
    if not isinstance(network, EarlyExits) or cost.exits is None:
        raise TypeError(f"thresholds need a network with exits, but got {type(network).__name__}")
    validation = context.dataset.validation
    with watch.stage("exits"):
        inputs, targets = to_device(validation.inputs, "cpu"), to_device(validation.targets, "cpu")
        answers = ExitAnswers(network, inputs, targets, context.dataset.task)
        network.set_thresholds_(answers.choose(cost.exits.macs, accuracy_loss=exits.accuracy_loss).thresholds)


def _fit_samples(dataset: Dataset, exits: Exits) -> tuple[Tensor, Tensor]:
    """Return training samples and their classes, on the CPU; samples without a class only if no class is read."""
    train = dataset.train.labelled(dataset.task) if exits.target == "labels" else dataset.train
    places = torch.linspace(0, len(train) - 1, min(FIT_SAMPLES, len(train)), dtype=torch.float64).long()
    inputs = to_device(chosen(train.inputs, places.to(device_of(train.inputs))), "cpu")
    targets = to_device(chosen(train.targets, places.to(device_of(train.targets))), "cpu")
    return next(iter(inputs.values())), dataset.task.labels(targets)


def _make_exits_aware_(network: EarlyExits, frozen: OneInputNetwork, candidate: Candidate, calibration: Batch) -> None:
    """Give the exits the fake quantization that the trained student has, with ranges by calibration samples."""
    with torch.no_grad():
        seen = frozen.observe(next(iter(calibration.values())))
    mask = {} if seen.mask is None else {"mask": seen.mask}
    quantization = candidate.precision.quantization
    for name, head in zip(network.exits.after, network.heads, strict=True):
        if isinstance(head, ExitHead):
            make_aware_(
                head,
                method=quantization.method,
                bits={"classifier": quantization.end_bits},
                activation_bits=candidate.precision.activation_bits,
                calibration={"features": seen.features[name], **mask},
                ranges=quantization.ranges,
                weight_format=quantization.weight_format,
            )
