"""A network that learned under rounding, and the file that it becomes: the same integers, the same answers."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from image_files import export_images, predict_logits
from nas_compress.devices.onnxruntime_cpu.kernel_check import float_kernels
from nas_compress.errors import RequestError
from nas_compress.quantization.arithmetic import per_channel, weight_levels
from nas_compress.quantization.layer_bits import bits_by_layer, weight_layers
from nas_compress.quantization.modules import IntegerWeight, StoredConv2d
from nas_compress.quantization.quantize import quantize
from nas_compress.quantization.trainable_modules import FakeQuantConv2d
from nas_compress.quantization.training_aware import freeze_, make_aware_

SAMPLES = torch.randint(0, 17, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def aware(network: nn.Module, bits: int, activation_bits: int, method: str, samples: Tensor = SAMPLES) -> nn.Module:
    network = deepcopy(network)
    layers = bits_by_layer(weight_layers(network), weight_bits=bits)
    make_aware_(network, method=method, bits=layers, activation_bits=activation_bits, calibration={"input": samples})
    return network


def learn(network: nn.Module, digits, epochs: int = 1) -> nn.Module:
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    order = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for batch in torch.randperm(len(digits.train), generator=order).split(64):
            optimiser.zero_grad()
            F.cross_entropy(network(digits.train[batch]), digits.train_labels[batch]).backward()
            optimiser.step()
    return network.eval()


SLOWER = (*((bits, "lsq") for bits in (8, 6, 5, 3, 2)), (8, "ste"))
"""The matrix trains these widths too, for fewer steps."""


@pytest.mark.parametrize(
    ("bits", "method"),
    [
        *((bits, "lsq") for bits in (4, 1)),
        (4, "ste"),
        *(pytest.param(bits, method, marks=pytest.mark.slow) for bits, method in SLOWER),
    ],
)
def test_the_file_answers_as_the_network_that_was_trained(
    trained, digits, tmp_path: Path, bits: int, method: str
) -> None:
    network = learn(aware(trained["resnet"], bits, 8, method, digits.train[:128]), digits)
    module = quantize(network, weight_bits=bits, activation_bits=8, calibration=None)
    export_images(module, (1, 8, 8), tmp_path / "m.onnx")
    assert float_kernels(tmp_path / "m.onnx") == ()
    every = torch.cat([digits.held_out, digits.train])
    with torch.no_grad():
        expected = network(every)
    answers = torch.from_numpy(predict_logits(tmp_path / "m.onnx", every.numpy()))
    assert (answers.argmax(1) == expected.argmax(1)).float().mean() >= 0.995
    assert (answers - expected).abs().max() <= 0.06 * expected.abs().max()
    if method == "lsq":
        held_out = len(digits.held_out)
        assert (answers[:held_out].argmax(1) == digits.held_out_labels).float().mean() > 0.85


@pytest.mark.parametrize("family", ["resnet", "mobilenet"])
@pytest.mark.parametrize("method", ["lsq", "ste"])
def test_folding_after_rounding_is_the_same_function(trained, family: str, method: str) -> None:
    for bits in (4, 1):
        network = aware(trained[family], bits, 32, method).eval()
        frozen = deepcopy(network)
        freeze_(frozen, computed_as_float=True)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
        before, after = network(SAMPLES), frozen(SAMPLES)
        assert (after - before).abs().max() <= 0.01 * before.abs().max()  # scales and biases have 16 bits


@pytest.mark.parametrize("bits", [8, 4, 1])
def test_frozen_integers_are_those_of_training_whatever_the_sign_of_the_normalisation(make_network, bits: int) -> None:
    network = make_network("resnet")
    norm = network.stem.norm
    with torch.no_grad():
        norm.weight[0] *= -1
    unit = aware(network, bits, 8, "lsq").eval()
    conv = unit.stages[0][0].main[0].conv
    assert isinstance(conv, FakeQuantConv2d) and conv.quantizer.bits == bits
    expected = conv.quantizer.integers(conv.weight)
    stem = unit.stem.conv.quantizer.integers(unit.stem.conv.weight)
    freeze_(unit, computed_as_float=False)
    assert torch.equal(unit.stages[0][0].main[0].conv.weight.integers, expected)
    frozen = unit.stem.conv.weight.integers
    assert torch.equal(frozen[1:], stem[1:])
    assert torch.equal(frozen[0], (-stem[0]).clamp(*weight_levels(8)))


@pytest.mark.parametrize("method", ["lsq", "ste"])
def test_signs_of_a_layer_of_zeros_are_frozen_to_next_to_zero(make_network, method: str) -> None:
    network = make_network("resnet")
    unit = network.stages[0][0].main[0]
    torch.nn.init.zeros_(unit.conv.weight)
    network = aware(network, 1, 32, method).eval()
    frozen = deepcopy(network)
    freeze_(frozen, computed_as_float=True)
    before, after = network(SAMPLES), frozen(SAMPLES)
    assert (after - before).abs().max() <= 0.01 * before.abs().max()


def test_ends_keep_eight_bits_and_every_parameter_stays(make_network) -> None:
    network = make_network("mobilenet")
    module = aware(network, 2, 8, "lsq")
    bits = [layer.quantizer.bits for layer in module.modules() if hasattr(layer, "quantizer")]
    assert bits[0] == bits[-1] == 8 and set(bits[1:-1]) == {2}
    before = {name for name, _ in network.named_parameters()}
    assert before <= {name for name, _ in module.named_parameters()}
    steps = [name for name, _ in module.named_parameters() if name not in before]
    assert steps and all(name.endswith("log_step") for name in steps)
    assert all(value.ndim <= 1 for name, value in module.named_parameters() if name in steps)  # so they never decay


def test_layers_of_more_than_eight_bits_stay_float(make_network) -> None:
    network = make_network("resnet")
    layers = dict.fromkeys(weight_layers(network), 4) | {"stem.conv": 32}
    make_aware_(network, method="lsq", bits=layers, activation_bits=32, calibration=None)
    assert type(network.stem.conv) is nn.Conv2d


def test_four_bit_activations_have_sixteen_values(trained, digits, tmp_path: Path) -> None:
    network = learn(aware(trained["resnet"], 4, 4, "lsq", digits.train[:128]), digits)
    module = quantize(network, weight_bits=4, activation_bits=4, calibration=None)
    seen: list[Tensor] = []
    module.stem.point.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        expected = module(digits.held_out)
    assert 2 < len(seen[0].unique()) <= 16
    export_images(module, (1, 8, 8), tmp_path / "m.onnx")
    answers = torch.from_numpy(predict_logits(tmp_path / "m.onnx", digits.held_out.numpy()))
    assert (answers.argmax(1) == expected.argmax(1)).float().mean() >= 0.995
    assert (answers.argmax(1) == digits.held_out_labels).float().mean() > 0.8


def test_activation_bits_without_samples_are_refused(make_network) -> None:
    with pytest.raises(RequestError, match="activation_bits=8 needs at least one calibration sample, but got none"):
        make_aware_(make_network("resnet"), method="lsq", bits={}, activation_bits=8, calibration=None)


def test_a_wrong_method_names_the_nearest(make_network) -> None:
    with pytest.raises(RequestError, match="did you mean 'lsq'"):
        make_aware_(make_network("resnet"), method="lqs", bits={}, activation_bits=32, calibration=None)


def test_scale_of_a_frozen_layer_carries_the_normalisation(make_network) -> None:
    network = aware(make_network("resnet"), 4, 32, "ste").eval()
    conv, norm = network.stem.conv, network.stem.norm
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    expected = conv.quantizer(conv.weight) * per_channel(factor, 4)
    freeze_(network, computed_as_float=True)
    stored = network.stem.conv
    assert isinstance(stored, StoredConv2d) and isinstance(stored.weight, IntegerWeight)
    assert torch.allclose(stored.weight(), expected, rtol=2**-10, atol=1e-6)
