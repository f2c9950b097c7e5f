"""Weights found in networks: which tensors, in which order, and how they are rounded one by one."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from nas_compress.quantization.find_weights import find_weights
from nas_compress.quantization.layer_bits import bits_by_layer, weight_layers
from nas_compress.quantization.modules import HalfWeight
from nas_compress.quantization.parametrized import is_stored, replaced, round_parameter_, store_parameter_
from nas_compress.quantization.quantize import quantize
from nas_compress.quantization.sensitivity import layer_sensitivities
from nas_compress.quantization.weight_flow import weight_flow
from nas_compress.quantization.weight_quantizers import LargestWeight
from nas_compress.tasks.classification import Classification
from own_networks import NETWORKS, SHAPE, Bare, Encoder, Normed, Tied

SAMPLES = {"input": torch.randint(0, 17, (8, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))}


def test_bare_parameters_in_products_are_weights_in_the_order_of_their_use() -> None:
    network = Bare()
    assert weight_layers(network) == ()
    assert weight_layers(network, SAMPLES) == ("kernel", "mixer", "experts", "classes")
    assert bits_by_layer(weight_layers(network, SAMPLES), weight_bits=2) == {
        "kernel": 8,
        "mixer": 2,
        "experts": 2,
        "classes": 8,
    }


def test_weights_are_named_after_their_layer_or_their_parameter() -> None:
    assert weight_layers(Encoder())[:5] == (
        "patch",
        "layers.0.self_attn.in_proj_weight",
        "layers.0.self_attn.out_proj",
        "layers.0.linear1",
        "layers.0.linear2",
    )
    # of a weight norm: the result of the new one, and the direction in the old one
    assert weight_layers(Normed(), SAMPLES) == ("first", "second.weight_v", "third", "head")


def test_a_layer_that_another_module_reads_keeps_its_attributes() -> None:
    plain = {weight.layer: weight.is_plain for weight in find_weights(Tied(), SAMPLES)}
    assert plain == {"table": False, "inner": False, "outer": False, "head": False}
    assert {weight.layer: weight.is_plain for weight in find_weights(Encoder())}["layers.0.linear1"] is False
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert all(weight.is_plain for weight in find_weights(network))


def test_families_have_the_same_weights_with_and_without_samples(make_network) -> None:
    for family in ("resnet", "mobilenet", "vit"):
        network = make_network(family)
        assert weight_layers(network) == weight_layers(network, SAMPLES)
        assert all(weight.is_plain for weight in find_weights(network, SAMPLES))


class Shy(nn.Module):
    """Counts its calls, and draws random numbers."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.linear, self.fails, self.drop = nn.Linear(64, 10), fails, nn.Dropout()

    def forward(self, samples: Tensor) -> Tensor:
        if self.fails:
            raise ValueError("not today")
        values = self.linear(self.drop(samples.flatten(1).float()))
        return values + torch.rand(1)


def test_the_search_for_weights_changes_nothing() -> None:
    network = Shy().train()
    before, state = type(network.linear), torch.get_rng_state()
    assert weight_layers(network, SAMPLES) == ("linear",)
    assert network.training and network.drop.training and type(network.linear) is before
    assert torch.equal(torch.get_rng_state(), state) and not network.linear._forward_hooks


def test_a_network_that_cannot_be_observed_has_the_weights_of_its_layers() -> None:
    network = Shy(fails=True)
    assert weight_flow(network, SAMPLES) is None
    assert weight_layers(network, SAMPLES) == ("linear",)
    assert type(network.linear) is nn.Linear


def test_a_parameter_has_other_values_only_inside_the_block() -> None:
    for name in ("bare", "normed"):
        network = NETWORKS[name]().eval().requires_grad_(False)
        for weight in find_weights(network, SAMPLES):
            before = weight.tensor.clone()
            with pytest.raises(KeyError), replaced(weight.module, weight.name, torch.zeros_like(before)):
                assert not weight.tensor.any()
                raise KeyError
            assert torch.equal(weight.tensor, before)


def test_every_kind_of_weight_has_a_sensitivity() -> None:
    torch.manual_seed(0)
    network = NETWORKS["normed"]().eval().requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = layer_sensitivities(network, SAMPLES, Classification.of_images(shape=SHAPE, classes=10), bits=2)
    assert [each.layer for each in found] == list(weight_layers(network, SAMPLES))
    assert all(each.divergence > 0 for each in found)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_rounding_a_copy_leaves_the_original() -> None:
    """Torch's parametrization adds a property to a class, which a copied module shares."""
    network = nn.Linear(4, 4)
    round_parameter_(network, "weight", LargestWeight(4))
    copy = deepcopy(network)
    store_parameter_(copy, "bias", HalfWeight(copy.bias))
    assert is_stored(copy, "bias") and isinstance(network.bias, nn.Parameter)
    network(torch.ones(1, 4))


def test_trained_rounding_keeps_the_parameter_and_its_gradient() -> None:
    layer = nn.Conv1d(3, 4, 2)
    parameter = layer.weight
    round_parameter_(layer, "weight", LargestWeight(2))
    assert any(parameter is each for each in layer.parameters())
    layer(torch.randn(2, 3, 5)).square().sum().backward()
    assert parameter.grad is not None and parameter.grad.any()
    step = parameter.detach().flatten(1).abs().amax(1).reshape(-1, 1, 1)
    assert torch.allclose(layer.weight / step, (layer.weight / step).round())


def test_shared_parameters_are_stored_once() -> None:
    module = quantize(Tied().eval(), weight_bits=4, activation_bits=32, calibration=SAMPLES)
    tables = [module.get_submodule(f"{path}.parametrizations.weight")[-1].stored for path in ("table", "outer")]
    assert tables[0] is tables[1]
    assert torch.equal(module.table.weight, module.outer.weight)


def test_layer_bits_may_name_every_weight() -> None:
    network = Bare().eval()
    module = quantize(
        network,
        weight_bits=8,
        activation_bits=32,
        calibration=SAMPLES,
        layer_bits={"mixer": 2, "classes": 16, "kernel": 32},
    )
    assert is_stored(module, "mixer") and is_stored(module, "classes")
    assert not parametrize.is_parametrized(module, "kernel") and not parametrize.is_parametrized(module, "experts")
    assert len(module.mixer[0].unique()) <= 4
    expected = F.mse_loss(module.classes, network.classes)
    assert float(expected.detach()) < 1e-6
