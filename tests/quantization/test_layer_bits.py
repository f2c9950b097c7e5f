from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.quantization.layer_bits import bits_by_layer, end_layers, weight_layers
from nas_compress.quantization.quantize import quantize
from nas_compress.quantization.sensitivity import Sensitivity, layer_sensitivities
from nas_compress.tasks.classification import Classification
from nas_compress.trial.bit_allocation import plan_bits
from nas_compress.values.candidate import Candidate, Quantization

TASK = Classification.of_images(shape=(1, 8, 8), classes=10)
LAYERS = ("stem.conv", "stages.0.0.conv", "stages.1.0.conv", "stages.1.1.conv", "head.classifier")


def test_each_stage_has_its_bits_and_the_ends_theirs() -> None:
    assert list(bits_by_layer(LAYERS, weight_bits=4, stage_bits=(2, 4)).values()) == [8, 2, 4, 4, 8]
    assert list(bits_by_layer(LAYERS, weight_bits=2, end_bits=4).values()) == [4, 2, 2, 2, 4]
    assert list(bits_by_layer(LAYERS, weight_bits=16).values()) == [16] * 5
    assert bits_by_layer(LAYERS, weight_bits=1, promoted=LAYERS[1:2])[LAYERS[1]] == 8


def test_every_classifier_is_an_end() -> None:
    layers = ("embedding.conv", "layers.0.query", "head.linear", "distillation_head.linear")
    assert set(end_layers(layers)) == {"embedding.conv", "head.linear", "distillation_head.linear"}


def test_too_few_stages_are_refused() -> None:
    with pytest.raises(RequestError, match=r"one entry per stage, but got \(4,\) for stage 1"):
        bits_by_layer(LAYERS, weight_bits=4, stage_bits=(4,))


def test_sensitivity_is_the_divergence_of_one_rounded_layer(trained, digits) -> None:
    network, samples = trained["resnet"], digits.train[:64]
    before = deepcopy(network.state_dict())
    found = layer_sensitivities(network, {"input": samples}, TASK, bits=2)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert [each.layer for each in found] == list(weight_layers(network))
    assert found[0].position == 0 and found[-1].position == 1
    assert all(each.divergence > 0 for each in found)
    assert sum(each.divergence for each in found) > 5 * sum(
        each.divergence for each in layer_sensitivities(network, {"input": samples}, TASK, bits=6)
    )
    # the same by hand for one layer
    layer = found[2].layer
    other = deepcopy(network)
    rounded = quantize(
        nn.Sequential(other.get_submodule(layer)),
        weight_bits=8,
        activation_bits=32,
        calibration=None,
        ranges="mse",
        layer_bits={"0": 2},
    )[0].weight()
    with torch.no_grad():
        other.get_submodule(layer).weight.copy_(rounded)
        expected = F.kl_div(
            other(samples).log_softmax(1), network(samples).log_softmax(1), log_target=True, reduction="batchmean"
        )
    assert found[2].divergence == pytest.approx(float(expected), rel=1e-3)


def test_a_failure_while_a_layer_is_rounded_leaves_the_network_whole(trained, digits) -> None:
    network, samples = deepcopy(trained["resnet"]), digits.train[:300]
    before = deepcopy(network.state_dict())
    met: list[int] = []

    def fail_later(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        met.append(len(inputs[0]))
        if len(met) == 5:
            raise RuntimeError("out of memory")

    network.register_forward_pre_hook(fail_later)
    with pytest.raises(RuntimeError, match="out of memory"):
        layer_sensitivities(network, {"input": samples}, TASK, bits=2)
    assert met == [256, 44, 256, 44, 256], "in batches; the second layer was rounded when it failed"
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_most_sensitive_layers_are_promoted(make_network) -> None:
    network = make_network("resnet")
    layers = weight_layers(network)
    candidate = Candidate(
        family="resnet",
        depths=(1, 1, 1),
        weight_bits=2,
        activation_bits=8,
        quantization=Quantization(promoted_layers=2),
    )
    told = [
        Sensitivity(layer=layer, position=number / (len(layers) - 1), divergence=float(layer in layers[3:5]))
        for number, layer in enumerate(layers)
    ]
    planned = plan_bits(candidate, network, told)
    assert [layer for layer, bits in planned.items() if bits == 8] == [layers[0], layers[3], layers[4], layers[-1]]
    # a teacher of other layers: the value at the relative depth
    other = [
        Sensitivity(layer="a", position=0.0, divergence=0.0),
        Sensitivity(layer="b", position=1.0, divergence=1.0),
    ]
    promoted = [layer for layer, bits in plan_bits(candidate, network, other).items() if bits == 8]
    assert promoted == [layers[0], *layers[-3:]]


def test_a_file_of_mixed_bits_keeps_each_layers_integers(make_network) -> None:
    network = make_network("mobilenet")
    planned = bits_by_layer(weight_layers(network), weight_bits=6, stage_bits=(6, 3, 1))
    module = quantize(network, weight_bits=6, activation_bits=32, calibration=None, layer_bits=planned)
    assert {path: module.get_submodule(path).weight.bits for path in planned} == planned
