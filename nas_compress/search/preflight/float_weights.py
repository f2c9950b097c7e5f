"""Weights that stay 32-bit floats in files of few bits."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from nas_compress.errors import NasCompressError
from nas_compress.measurement.file_contents import WEIGHT_INPUTS, stored_layers, weight_contents
from nas_compress.measurement.pipeline import Stopwatch, calibration_samples, write_file
from nas_compress.search.preflight.feasibility import Sized
from nas_compress.search.setup import StudyParts
from nas_compress.values.candidate import PRUNED

SHOWN = 3
"""Most layers named in the note."""


def float_weights_note(parts: StudyParts, sized: Sequence[Sized]) -> str | None:
    """Return a line about weights out of reach of few bits; None if there are none.

    Only modules of the user may have them. The untrained file of the largest candidate of few bits is read.
    """
    few = [
        item for item in sized if item.candidate.shape.family == PRUNED and item.candidate.precision.weight_bits < 32
    ]
    if not few:
        return None
    with tempfile.TemporaryDirectory(prefix="nas_compress_") as folder:
        path = Path(folder) / "model.onnx"
        try:
            _write(few[-1], path, parts)
            left = weight_contents(path).float32_fraction
            layers = [layer for layer in stored_layers(path) if layer.kind == "float" and len(layer.shape) > 1]
        except NasCompressError:  # the trial itself reports why
            return None
    if not left:
        return None
    named = [layer for layer in layers if layer.name.split()[0] in WEIGHT_INPUTS]
    largest = sorted(named, key=lambda layer: -layer.size_bytes)[:SHOWN]
    places = ", ".join(f"{layer.name} {layer.shape}" for layer in largest)
    return (
        f"low bits do not reach {max(1, round(100 * left))} % of the weights of this network; "
        f"they stay 32-bit floats in every file{': ' if places else ''}{places}"
    )


def _write(item: Sized, path: Path, parts: StudyParts) -> None:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(parts.spec.seed)
        network = parts.build(item.architecture)
    data = parts.dataset.at(item.candidate.data_size)
    write_file(
        network,
        path,
        signature=data.task.signature,
        precision=replace(item.candidate.precision, activation_bits=32),
        calibration=calibration_samples(data.train),
        watch=Stopwatch(),
    )
