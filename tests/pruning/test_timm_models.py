"""Networks that nobody here wrote: three of timm's, with random weights. Needs the extra `timm`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from foreign import MODELS, Raw, import_timm
from image_batches import example, labelled
from image_files import export_images, predict_logits
from nas_compress.pruning.importance_criteria import rank_channels
from nas_compress.pruning.pruned_family import build_pruned, pruned_widths
from nas_compress.pruning.ranking import surviving_fractions
from nas_compress.quantization.quantize import quantize
from nas_compress.values.architecture import Architecture

SHAPE = (1, 8, 8)
SAMPLES = torch.randint(0, 17, (6, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # its models look at their shapes
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("criterion", ["l1", "taylor"])
def test_it_is_cut_trains_and_ships(name: str, criterion: str, tmp_path: Path) -> None:
    import_timm()
    make: Callable[[], nn.Module] = lambda: Raw(name)  # noqa: E731
    teacher = make()
    samples = labelled([(SAMPLES, torch.arange(6))])
    groups = rank_channels(teacher, example(SHAPE), criterion=criterion, seed=0, samples=samples)
    fractions = surviving_fractions(groups, 0.5, ranking="isomorphic")
    widths = pruned_widths(groups, fractions, width_multiplier=1.0, step=8)
    student = build_pruned(
        make,
        Architecture.of_images(SHAPE, classes=10, mean=0, std=1.0, family="pruned", depths=(), widths=widths),
        example(SHAPE),
    ).train()
    F.cross_entropy(student(SAMPLES), torch.arange(6)).backward()
    assert all(value.grad is not None for value in student.parameters())
    counts = [sum(value.numel() for value in network.parameters()) for network in (teacher, student)]
    assert counts[1] < 0.6 * counts[0]
    for bits in (32, 8):
        deployable = quantize(student.eval(), weight_bits=bits, activation_bits=32, calibration={"input": SAMPLES})
        export_images(deployable, SHAPE, tmp_path / "model.onnx")
        answers = torch.tensor(predict_logits(tmp_path / "model.onnx", SAMPLES.numpy()))
        torch.testing.assert_close(answers, deployable(SAMPLES), rtol=1e-3, atol=1e-3)
