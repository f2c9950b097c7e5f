"""Weights that share values: by hand, under gradients, and frozen to what the file holds."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nas_compress.models.factorised import Factorised, factorise_
from nas_compress.quantization.layer_bits import bits_by_layer, weight_layers
from nas_compress.quantization.modules import IntegerWeight
from nas_compress.quantization.quantize import quantize
from nas_compress.quantization.training_aware import make_aware_
from nas_compress.quantization.weight_quantizers import SharedWeight, cluster, nearest_place, shared_integers


def test_means_by_hand() -> None:
    # from 0.1 and 0.9 evenly to 4 values; 0.37 stays where no weight is near
    values, places = cluster(torch.tensor([[0.1, 0.12, 0.9], [0.88, 0.6, 0.62]]), 2)
    assert torch.allclose(values, torch.tensor([0.11, 0.1 + 0.8 / 3, 0.61, 0.89]))
    assert places.tolist() == [[0, 0, 3], [3, 2, 2]]


def test_pruned_weights_have_a_value_of_their_own() -> None:
    weights = torch.tensor([0.0, 0.001, -0.001, 0.5, 0.0, -0.5])
    values, places = cluster(weights, 2)
    assert len(values) == 4 and bool((values[places[weights == 0]] == 0).all())
    assert not bool((values[places[weights != 0]] == 0).all())


def test_weights_that_are_pruned_later_take_the_value_zero() -> None:
    weights = torch.tensor([[-1.0, 1.0, 0.25], [1.0, 0.25, -1.0]])
    quantizer, without = SharedWeight(weights, 2, with_zero=True), SharedWeight(weights, 2)
    assert 0 in quantizer.start and 0 not in without.start
    assert torch.allclose(quantizer(weights), weights, atol=0.01)
    pruned = weights * torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    for rounded in (quantizer(pruned), quantizer.integers(pruned)):
        assert torch.equal(rounded == 0, pruned == 0)
    assert torch.allclose(quantizer(weights), weights, atol=0.01), "targeted dropout gives its weights back"
    quantizer(pruned).square().sum().backward()
    assert quantizer.moves.grad is not None
    moved = dict(zip(quantizer.start.tolist(), (quantizer.moves.grad != 0).tolist(), strict=True))
    assert moved == {-1.0: True, 0.0: False, 0.25: True, 1.0: True}
    with torch.no_grad():
        quantizer.moves += 1
    assert torch.equal(quantizer.integers(pruned) == 0, pruned == 0), "the value that was 0 stays it"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), bits=st.integers(1, 6), count=st.integers(1, 300), pruned=st.booleans())
def test_every_weight_has_the_nearest_value(seed: int, bits: int, count: int, pruned: bool) -> None:
    weights = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    if pruned and bits > 1:
        weights[::2] = 0
    values, places = cluster(weights, bits)
    assert len(values) == 2**bits and bool((values[1:] >= values[:-1]).all())
    kept = weights != 0
    distance = (weights[:, None] - values).abs()
    own = distance.gather(1, places[:, None])[:, 0]
    assert torch.allclose(own[kept], distance[kept].min(dim=1).values, atol=1e-6)
    assert bool((own[~kept] == 0).all())


def test_integers_are_nearest_and_zero_stays_zero() -> None:
    integers, scale = shared_integers(torch.tensor([-0.3, 0.0, 0.1, 0.25]))
    assert integers.tolist() == [-127, 0, 42, 106] and float(scale) == pytest.approx(0.3 / 127)
    assert shared_integers(torch.zeros(4))[0].tolist() == [0, 0, 0, 0]
    assert nearest_place(torch.tensor([-9.0, 0.04, 9.0]), torch.tensor([-0.3, 0.0, 0.1])).tolist() == [0, 1, 2]


def test_a_value_gets_the_sum_of_its_weights_gradients() -> None:
    weights = torch.tensor([[-1.0, 1.0, 0.0], [1.0, 1.0, -1.0]])
    quantizer = SharedWeight(weights, 2)
    gradients = torch.tensor([[1.0, 10.0, 100.0], [20.0, 30.0, 2.0]])
    (quantizer(weights) * gradients).sum().backward()
    size = float(quantizer.start.square().mean().sqrt())
    by_value = dict(zip(quantizer.start.tolist(), quantizer.moves.grad.tolist(), strict=True))  # type: ignore[union-attr]
    assert by_value[-1.0] == pytest.approx(3 * size) and by_value[1.0] == pytest.approx(60 * size)
    assert by_value[0.0] == 0  # pruned weights do not come back


@pytest.mark.parametrize("activation_bits", [32, 8])
def test_training_moves_the_values_alone_and_freezes_to_them(make_network, digits, activation_bits: int) -> None:
    network = make_network("resnet")
    if activation_bits == 32:
        factorise_(network, rank_fraction=0.5, kind="low_rank")
        assert isinstance(network.stages[1][0].main[0].conv, Factorised)
    with torch.no_grad():
        network.stages[1][0].main[0].norm.weight[::2] *= -1  # a factor whose sign is folded into the weights
        expected = network(digits.train[:64])
    aware = deepcopy(network)
    bits = bits_by_layer(weight_layers(aware), weight_bits=4)
    make_aware_(
        aware,
        method="lsq",
        bits=bits,
        activation_bits=activation_bits,
        calibration={"input": digits.train[:64]},
        weight_format="codebook",
    )
    with torch.no_grad():
        assert (aware(digits.train[:64]) - expected).abs().max() < 0.35 * expected.abs().max()
    parts = {path: part for path, part in aware.named_modules() if isinstance(part, SharedWeight)}
    before = {path: (part.places.clone(), part.values.detach().clone()) for path, part in parts.items()}
    assert len(parts) == sum(width == 4 for width in bits.values())
    optimiser = torch.optim.AdamW(aware.parameters(), lr=1e-2)
    aware.train()
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(aware(digits.train[:64]), digits.train_labels[:64]).backward()
        optimiser.step()
    for path, part in parts.items():
        assert torch.equal(part.places, before[path][0]) and not torch.equal(part.values, before[path][1])

    frozen = quantize(
        aware.eval(),
        weight_bits=4,
        activation_bits=activation_bits,
        calibration=None,
        weight_format="codebook",
        layer_bits=bits,
    )
    weights = [part for part in frozen.modules() if isinstance(part, IntegerWeight) and part.bits == 4]
    assert len(weights) == len(parts)
    for weight, part in zip(weights, parts.values(), strict=True):
        assert weight.codebook.tolist() == part.codebook.tolist()  # type: ignore[union-attr]
        assert torch.equal(weight.integers, weight.codebook[part.places])
    if activation_bits == 32:
        with torch.no_grad():
            difference = frozen(digits.held_out[:64]) - aware(digits.held_out[:64])
        assert difference.abs().max() < 0.01 * expected.abs().max()
