from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from nas_compress.errors import NonFiniteLossError, RequestError
from nas_compress.models.layers import ActivationPoint, RawInput
from nas_compress.quantization.modules import (
    QuantizedActivation,
    QuantizedInput,
    StoredConv2d,
    StoredLinear,
)
from nas_compress.quantization.parametrized import is_stored
from nas_compress.quantization.quantize import quantize
from nas_compress.tasks.batch import Batch

SAMPLES = torch.randint(0, 17, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(type(module) is kind for module in network.modules())


@pytest.mark.parametrize("bits", [(32, 32), (8, 32), (8, 8)])
@pytest.mark.parametrize("family", ["resnet", "mobilenet"])
def test_the_given_network_is_untouched(make_network, family: str, bits: tuple[int, int]) -> None:
    network = make_network(family).train()
    before = deepcopy(network.state_dict())
    quantized = quantize(network, weight_bits=bits[0], activation_bits=bits[1], calibration={"input": SAMPLES})
    assert network.training and not quantized.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert _count(network, nn.BatchNorm2d) > 0 and _count(quantized, nn.BatchNorm2d) == 0
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("family", ["resnet", "mobilenet"])
def test_integers_take_every_place(make_network, family: str) -> None:
    network = make_network(family, depths=(1, 2, 1))
    quantized = quantize(network, weight_bits=8, activation_bits=8, calibration={"input": SAMPLES})
    assert _count(quantized, StoredConv2d) == _count(network, nn.Conv2d)
    assert _count(quantized, StoredLinear) == 1
    assert _count(quantized, QuantizedActivation) == _count(network, ActivationPoint)
    assert _count(quantized, QuantizedInput) == _count(network, RawInput) == 1
    assert list(quantized.parameters()) == []


def test_activations_after_relu_begin_at_zero(make_network) -> None:
    quantized = quantize(make_network("resnet"), weight_bits=8, activation_bits=8, calibration={"input": SAMPLES})
    assert quantized.stem.point.zero_point == 0
    assert 0 < quantized.stages[0][0].main[1].point.zero_point < 255


@pytest.mark.parametrize("bits", [(8, 32), (8, 8)])
def test_eight_bits_cost_almost_no_accuracy(trained, digits, bits: tuple[int, int]) -> None:
    for network in trained.values():
        quantized = quantize(
            network, weight_bits=bits[0], activation_bits=bits[1], calibration={"input": digits.train[:256]}
        )
        with torch.no_grad():
            right = [
                (model(digits.held_out).argmax(1) == digits.held_out_labels).float().mean().item()
                for model in (network, quantized)
            ]
        assert right[0] > 0.85
        assert right[1] > right[0] - 0.015


def test_calibration_covers_all_samples_not_only_the_first(make_network) -> None:
    network = make_network("resnet")
    dim = torch.zeros(300, 1, 8, 8, dtype=torch.uint8)
    bright_at_the_end = torch.cat([dim, SAMPLES])
    scales = [
        quantize(network, weight_bits=8, activation_bits=8, calibration={"input": samples}).stem.point.scale
        for samples in (dim, bright_at_the_end)
    ]
    assert scales[1] > scales[0]


def test_a_network_without_activation_points_is_traced_for_integer_kernels() -> None:
    network = nn.Sequential(RawInput(5, 6.0), nn.Conv2d(1, 4, 3, padding_mode="reflect", padding=1), nn.Conv2d(4, 4, 3))
    quantized = quantize(network, weight_bits=8, activation_bits=32, calibration=None)
    assert isinstance(quantized[1], nn.Conv2d) and is_stored(quantized[1], "weight")
    assert type(quantized[2]) is StoredConv2d and list(quantized.parameters()) == []
    integer = quantize(network, weight_bits=8, activation_bits=8, calibration={"input": SAMPLES})
    assert _count(integer, QuantizedActivation) == 2 and _count(integer, QuantizedInput) == 1
    with pytest.raises(RequestError, match="needs a network with activation points, but got Sequential with none"):
        quantize(nn.Sequential(nn.Flatten()), weight_bits=8, activation_bits=8, calibration={"input": SAMPLES})


@pytest.mark.parametrize(
    ("layer_bits", "activation_bits", "message"),
    [
        ({"1": 7}, 32, r"among 32, 16, 8, 6, 5, 4, 3, 2, 1 with .* but got layer_bits\['1'\]=7"),
        ({"1": 12}, 32, r"but got layer_bits\['1'\]=12"),
        ({"1": True}, 32, r"but got layer_bits\['1'\]=True"),
        ({"1": 16}, 8, r"among 8, 6, 5, 4, 3, 2, 1 with activation_bits=8 .* but got layer_bits\['1'\]=16"),
        ({"stage.conv": 4}, 32, r"must name convolutions .* but got 'stage.conv'; did you mean 'stages.conv'"),
        ({"0": 4}, 32, r"but got '0'; valid are 1, stages.conv"),
    ],
    ids=["no such width", "too wide for a byte", "no number", "too wide for integers", "no such layer", "no weights"],
)
def test_bits_that_no_layer_can_have_are_refused(
    layer_bits: dict[str, int], activation_bits: int, message: str
) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    network.add_module("stages", nn.Sequential())
    network.get_submodule("stages").add_module("conv", nn.Conv2d(1, 1, 1))
    with pytest.raises(RequestError, match=message):
        quantize(network, weight_bits=8, activation_bits=activation_bits, calibration=None, layer_bits=layer_bits)


def test_a_layer_by_itself_is_refused_and_not_left_in_float() -> None:
    with pytest.raises(RequestError, match=r"but got a Linear by itself; nn\.Sequential holds it"):
        quantize(nn.Linear(4, 4), weight_bits=2, activation_bits=32, calibration=None)
    assert type(quantize(nn.Linear(4, 4), weight_bits=32, activation_bits=32, calibration=None)) is nn.Linear


def test_float8_has_no_narrower_layers() -> None:
    with pytest.raises(RequestError, match=r"among 32, 16, 8 with .*weight_format='float8', but got .*=4"):
        quantize(
            nn.Sequential(nn.Linear(4, 4)),
            weight_bits=8,
            activation_bits=32,
            calibration=None,
            weight_format="float8",
            layer_bits={"0": 4},
        )


def test_one_layer_in_two_places_stays_one_layer() -> None:
    layer = nn.Conv2d(1, 1, 3, padding=1)
    quantized = quantize(nn.Sequential(layer, layer), weight_bits=8, activation_bits=32, calibration=None)
    assert quantized[0] is quantized[1] and type(quantized[0]) is StoredConv2d


@pytest.mark.parametrize("bits", [(32, 8), (16, 8), (7, 8), (16, 16)])
def test_other_bits_are_refused(make_network, bits: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match=r"weight_bits=\d+|activation_bits=16"):
        quantize(make_network("resnet"), weight_bits=bits[0], activation_bits=bits[1], calibration={"input": SAMPLES})


@pytest.mark.parametrize("samples", [None, {"input": SAMPLES[:0]}])
def test_integers_need_samples(make_network, samples: Batch | None) -> None:
    with pytest.raises(RequestError, match="calibration sample"):
        quantize(make_network("resnet"), weight_bits=8, activation_bits=8, calibration=samples)


def test_exploded_network_is_a_failed_trial(make_network) -> None:
    network = make_network("resnet")
    nn.init.constant_(network.stem.conv.weight, float("inf"))
    with pytest.raises(NonFiniteLossError, match="finite"):
        quantize(network, weight_bits=8, activation_bits=8, calibration={"input": SAMPLES})
