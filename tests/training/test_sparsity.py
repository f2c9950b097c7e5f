"""Zeros within dense shapes: by hand, after every step, and in the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from image_files import export_images
from nas_compress.data.dataset import Dataset
from nas_compress.errors import RequestError
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.measurement.file_contents import multiplied_weights, weight_zero_fraction
from nas_compress.models.features import ObservableNetwork
from nas_compress.quantization.quantize import quantize
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective
from nas_compress.training.sparsity import Sparsifier, sparse_layers, zero_fraction_at, zero_masks
from nas_compress.values.candidate import Candidate, cross_entropy
from nas_compress.values.precision import precisions
from nas_compress.values.pruning import ZERO_PATTERNS

MakeNetwork = Callable[..., ObservableNetwork]
PATTERNS = [pattern for pattern in ZERO_PATTERNS if pattern != "none"]
ROWS = torch.tensor([[1.0, -8.0, 3.0, -4.0], [0.1, 0.2, -0.3, 0.4], [5.0, 6.0, 7.0, -9.0]])


@pytest.mark.parametrize(
    ("pattern", "fraction", "kept"),
    [
        ("one_shot", 5 / 12, [[0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]),
        ("gradual", 2 / 12, [[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]]),
        ("targeted_weight", 0.75, [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]),
        ("targeted_unit", 1 / 3, [[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]),
        ("two_four", 0.5, [[0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1]]),
    ],
)
def test_masks_by_hand(pattern: str, fraction: float, kept: list[list[int]]) -> None:
    (mask,) = zero_masks([ROWS], fraction, pattern=pattern)
    assert mask.tolist() == kept


def test_layers_compete_but_none_is_emptied() -> None:
    small, large = torch.full((10, 10), 0.01), torch.rand(10, 10) + 1
    masks = zero_masks([small, large], 0.5, pattern="one_shot")
    assert [int(mask.sum()) for mask in masks] == [1, 99]


def test_two_of_four_runs_along_the_inputs() -> None:
    weight = torch.zeros(1, 4, 1, 2)
    weight[0, :, 0, 0], weight[0, :, 0, 1] = torch.tensor([1.0, 2, 3, 4]), torch.tensor([4.0, 3, 2, 1])
    (mask,) = zero_masks([weight], 0.5, pattern="two_four")
    assert mask[0, :, 0, 0].tolist() == [0, 0, 1, 1] and mask[0, :, 0, 1].tolist() == [1, 1, 0, 0]


def test_the_gradual_schedule_is_cubic() -> None:
    values = [zero_fraction_at(step, steps=1000, pattern="gradual", final=0.8) for step in range(1000)]
    assert values == sorted(values) and values[100] == 0 and values[700] == values[-1] == 0.8
    assert values[400] == pytest.approx(0.8 * 7 / 8)  # half of the way: 1 - 0.5^3
    shot = [zero_fraction_at(step, steps=10, pattern="one_shot", final=0.8) for step in range(10)]
    assert shot == [0] * 5 + [0.8] * 5


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_zeros_are_exact_after_every_step(pattern: str, make_network: MakeNetwork) -> None:
    network = make_network("resnet", step=8).train()
    sparsifier = Sparsifier(network, pattern=pattern, fraction=0.5, seed=0)
    weights = [weight for _, weight in sparse_layers(network, pattern)]
    total = sum(weight.numel() for weight in weights)
    optimiser, seen = torch.optim.AdamW(network.parameters(), lr=1e-2), []
    for step in range(20):
        sparsifier.before_forward(step, 20)
        during = sum(int((weight == 0).sum()) for weight in weights) / total
        optimiser.zero_grad()
        F.cross_entropy(network(torch.randint(0, 17, (8, 1, 8, 8), dtype=torch.uint8)), torch.arange(8)).backward()
        sparsifier.before_update()
        optimiser.step()
        sparsifier.after_update()
        seen.append((during, sum(int((weight == 0).sum()) for weight in weights) / total))
    if pattern.startswith("targeted"):
        assert all(after == 0 for _, after in seen), "what was dropped lives on"
        assert 0.2 < sum(during for during, _ in seen) / len(seen) < 0.3  # half of the time, half of the weights
    else:
        expected = [zero_fraction_at(step, steps=20, pattern=pattern, final=0.5) for step in range(20)]
        for (during, after), fraction in zip(seen, expected, strict=True):
            assert during == after == pytest.approx(fraction, abs=1.01 / total)
    sparsifier.finish()
    zeros = sum(int((weight == 0).sum()) for weight in weights) / total
    assert zeros == pytest.approx(0.5, abs=0.03 if pattern.startswith("targeted") else 1.01 / total)


FEW_BITS = [(32, 32), (8, 8)]
EVERY_WIDTH = [bits for bits in precisions() if bits[0] > 1 and bits[1] == 32]


@pytest.mark.parametrize(
    ("pattern", "precision"),
    [("gradual", EVERY_WIDTH), ("two_four", FEW_BITS), ("targeted_unit", FEW_BITS)],
    ids=["gradual", "two_four", "targeted_unit"],
)
def test_the_zeros_reach_the_file(
    pattern: str, precision: list[tuple[int, int]], make_network: MakeNetwork, few_digits: Dataset, tmp_path: Path
) -> None:
    network = make_network("resnet", step=8)
    train(
        network,
        few_digits.train,
        few_digits.augmentation,
        objective=LossObjective(TrainingLoss(few_digits.task, cross_entropy())),
        epochs=1,
        batch_size=60,
        learning_rate=0.01,
        weight_decay=0.01,
        seed=0,
        sparsifier=Sparsifier(network, pattern=pattern, fraction=0.5, seed=0),
    )
    network.to(memory_format=torch.contiguous_format)
    wanted = [(weight == 0).numpy() for _, weight in sparse_layers(network, pattern)]
    all_weights = sum(weight.numel() for _, weight in sparse_layers(network, "one_shot"))
    samples = few_digits.train.inputs["input"][:32]
    for weight_bits, activation_bits in precision:
        path = tmp_path / f"{weight_bits}-{activation_bits}.onnx"
        deployable = quantize(
            network, weight_bits=weight_bits, activation_bits=activation_bits, calibration={"input": samples}
        )
        export_images(deployable, (1, 8, 8), path)
        stored = multiplied_weights(path)
        assert sum(weight.size for weight in stored) == all_weights
        for zeros in wanted:
            turned = [weight if weight.shape == zeros.shape else weight.T for weight in stored]
            same = [weight for weight in turned if weight.shape == zeros.shape]
            assert any((weight[zeros] == 0).all() for weight in same), (weight_bits, zeros.shape)
        counted = sum((weight == 0).sum() for weight in stored) / all_weights
        assert weight_zero_fraction(path) == pytest.approx(counted)
        if weight_bits >= 16:  # few bits round small weights to 0 as well
            assert counted == pytest.approx(sum(zeros.sum() for zeros in wanted) / all_weights, abs=1e-3)


def test_an_input_not_in_fours_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Conv2d(6, 8, 3))
    with pytest.raises(RequestError, match="'two_four' needs inputs in fours, but layer 1 has 6"):
        sparse_layers(network, "two_four")
    assert [path for path, _ in sparse_layers(network, "one_shot")] == ["0", "1"]
    with pytest.raises(RequestError, match="needs a convolution or linear layer, but the network has none"):
        sparse_layers(nn.Sequential(nn.ReLU()), "one_shot")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zero_pattern": "gradul", "zero_fraction": 0.5}, "but got 'gradul'; did you mean 'gradual'"),
        ({"zero_pattern": "gradual"}, "0 < zero_fraction < 1 must hold with a zero_pattern, and 0 without"),
        ({"zero_fraction": 0.5}, "but got zero_pattern='none', zero_fraction=0.5"),
        ({"zero_pattern": "gradual", "zero_fraction": 1.0}, "but got zero_pattern='gradual', zero_fraction=1.0"),
        ({"zero_pattern": "two_four", "zero_fraction": 0.4}, "zero_fraction=0.5 must hold for zero_pattern 'two_four'"),
    ],
)
def test_fractions_and_patterns_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        Candidate(family="resnet", depths=(1, 1, 1), **change)  # type: ignore[arg-type]
    assert message in str(caught.value)


class OwnConvolution(nn.Conv2d):
    pass


def test_zeros_reach_subclasses_and_convolutions_of_any_dimension() -> None:
    network = nn.Sequential(
        OwnConvolution(4, 8, 3), nn.Conv1d(8, 8, 3), nn.ConvTranspose2d(8, 8, 2), nn.MultiheadAttention(8, 2)
    )
    assert [path for path, _ in sparse_layers(network, "gradual")] == ["0", "1", "2", "3.out_proj"]
    assert [path for path, _ in sparse_layers(network, "two_four")] == ["0", "1", "3.out_proj"]
