"""Networks of any make get activation points by tracing: same floats, integer kernels, and the file's answers."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.devices.onnx_session import open_session
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.onnxruntime_cpu.kernel_check import float_kernels, optimised_operators
from nas_compress.errors import FloatKernelError, RequestError
from nas_compress.export.onnx_file import export_onnx
from nas_compress.measurement.pipeline import Stopwatch, measure_cost, write_file
from nas_compress.models.features import watch
from nas_compress.models.layers import ActivationPoint
from nas_compress.quantization.layer_bits import bits_by_layer, weight_layers
from nas_compress.quantization.quantize import quantize
from nas_compress.quantization.traced.activation_points import with_activation_points
from nas_compress.quantization.traced.decomposed_attention import SeparateAttention
from nas_compress.quantization.trainable_modules import LearnedStepActivation
from nas_compress.quantization.training_aware import make_aware_
from nas_compress.quantization.weight_flow import own_name
from nas_compress.values.precision import Precision
from nas_compress.values.signature import Signature, TensorSpec
from processors import with_exact_integers
from traced_networks import TRACED, Own, samples_of

CLOSE = {"encoder": 1e-5}
"""Its attention becomes separate layers, which add in another order."""


def made(name: str) -> Own:
    torch.manual_seed(0)
    return TRACED[name]()


def flat(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient.squeeze(2) if gradient.ndim == 4 and gradient.shape[2] == 1 else gradient


def traced(network: Own) -> nn.Module:
    return with_activation_points(network, {"input": samples_of(network, 2)})


def signature_of(network: Own) -> Signature:
    kind = str(samples_of(network, 1).dtype).removeprefix("torch.")
    given = TensorSpec(name="input", dtype=kind, shape=("N", *network.shape))
    return Signature(inputs=(given,), outputs=(TensorSpec(name="logits", dtype="float32", shape=("N", 10)),))


@pytest.mark.parametrize("name", TRACED)
def test_floats_and_their_training_stay(name: str) -> None:
    own, again = made(name), traced(made(name))
    samples, answers, gradients = samples_of(own, 5), [], []
    for network in (own, again):
        torch.manual_seed(1)
        network.train(name not in CLOSE)  # dropout draws in the order of memory
        F.cross_entropy(network(samples), torch.arange(5)).backward()
        named = network.named_parameters()
        gradients.append({own_name(path).rpartition("weight.0.")[2]: flat(value.grad) for path, value in named})
        with torch.no_grad():
            answers.append(network.eval()(samples[:1]))
    torch.testing.assert_close(*answers, rtol=CLOSE.get(name, 0), atol=CLOSE.get(name, 0))
    if name in CLOSE:
        torch.testing.assert_close(gradients[0]["head.weight"], gradients[1]["head.weight"])
    else:
        torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.parametrize("name", TRACED)
def test_rounding_is_trained_and_every_product_has_an_integer_kernel(name: str, tmp_path: Path) -> None:
    own = made(name)
    network, samples = traced(own), samples_of(own)
    bits = bits_by_layer(weight_layers(network, {"input": samples}), weight_bits=8)
    make_aware_(network, method="lsq", bits=bits, activation_bits=8, calibration={"input": samples})
    optimiser = torch.optim.AdamW(network.train().parameters(), lr=0.003)
    for part in (samples[:32], samples[32:]):
        optimiser.zero_grad()
        F.cross_entropy(network(part), torch.arange(32) % 10).backward()
        optimiser.step()
    file = network_file(network.eval(), own, tmp_path, bits=bits)
    assert file.stat().st_size > 0


def kernels(path: Path) -> set[str]:
    return set(optimised_operators(path))


@pytest.mark.parametrize(
    ("name", "floats"),
    [
        ("residual", set()),
        ("series", {"ReduceMean"}),
        ("padded", set()),
        ("gated", {"HardSigmoid"}),
        ("subclassed", set()),
    ],
)
def test_only_these_operations_stay_float(name: str, floats: set[str], tmp_path: Path) -> None:
    found = kernels(network_file(made(name).eval(), made(name), tmp_path, bits=None, compare=False))
    moves = {
        "Cast",
        "Div",
        "QuantizeLinear",
        "DequantizeLinear",
        "Transpose",
        "Reshape",
        "MaxPool",
        "NhwcMaxPool",
        "Pad",
        "Concat",
    }
    integer = {each for each in found if each.startswith(("Q", "MatMulInteger"))}
    assert found - integer - moves - {"Slice", "Unsqueeze", "Squeeze"} == floats


@pytest.mark.parametrize("name", ["residual", "series"])
def test_rounding_after_training_traces_by_itself(name: str, tmp_path: Path) -> None:
    network_file(made(name).eval(), made(name), tmp_path, bits=None)


def network_file(
    network: nn.Module, own: Own, folder: Path, *, bits: dict[str, int] | None, compare: bool = True
) -> Path:
    samples, path = samples_of(own), folder / "model.onnx"
    module = quantize(network, weight_bits=8, activation_bits=8, calibration={"input": samples}, layer_bits=bits)
    export_onnx(module, signature_of(own), path)
    assert float_kernels(path) == ()
    if not compare:
        return path
    with torch.no_grad():
        expected = module(samples).numpy()

    def agrees(session: ort.InferenceSession, most: float = 0.1) -> None:
        (found,) = session.run(None, {"input": samples.numpy()})
        assert np.abs(found - expected).max() <= most * np.abs(expected).max()

    agrees(open_session(path, optimised=False), 0.02)
    with_exact_integers(path, agrees)
    return path


class Grows(Own):
    """A transposed convolution, which has no integer kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.head = nn.Conv2d(1, 8, 3), nn.ConvTranspose2d(8, 12, 2, 2), nn.Linear(12, 10)

    def forward(self, samples: Tensor) -> Tensor:
        return self.head(self.up(F.relu(self.stem(self.pixels(samples)))).mean((2, 3)))


def test_a_layer_without_an_integer_kernel_is_named(tmp_path: Path) -> None:
    own, path, stopwatch = Grows(), tmp_path / "model.onnx", Stopwatch()
    network, sample = traced(own), {"input": samples_of(own)}
    precision, signature = Precision(weight_bits=8, activation_bits=8), signature_of(own)
    write_file(network, path, signature=signature, precision=precision, calibration=sample, watch=stopwatch)
    with pytest.raises(FloatKernelError, match=r"but got ConvTranspose \(model.onnx\) in up; use activation_bits=32"):
        measure_cost(
            network,
            path,
            signature=signature,
            activation_bits=8,
            sample=sample,
            target=OnnxruntimeCpu(),
            watch=stopwatch,
        )


class Makes(Own):
    """It makes a tensor each time that it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, samples: Tensor) -> Tensor:
        return self.head(self.pixels(samples).flatten(1) * torch.linspace(0, 1, 64))


def test_a_tensor_that_the_network_makes_is_a_constant_of_both_modes() -> None:
    own = Makes().eval()
    samples = samples_of(own)
    expected = own(samples)
    again = traced(own)
    assert torch.equal(again(samples), expected) and "_tensor_constant0" in dict(again.named_buffers())


class Decides(Own):
    def forward(self, samples: Tensor) -> Tensor:
        if samples.float().mean() > 1e9:
            return torch.zeros(1, 10)
        return samples.float().flatten(1) @ torch.ones(64, 10)


class Helps(Own):
    """It has a second answer in training."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.aid = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, samples: Tensor) -> Tensor:
        values = self.pixels(samples).flatten(1)
        return self.head(values) + self.aid(values) if self.training else self.head(values)


@pytest.mark.parametrize(
    ("network", "reason"), [(Decides(), "it decides by the numbers"), (Helps(), "it runs other operations in training")]
)
def test_a_network_that_cannot_be_traced_is_refused_in_one_line(network: Own, reason: str) -> None:
    with pytest.raises(RequestError, match=f"can be traced, but got {type(network).__name__}: {reason}") as caught:
        traced(network)
    assert str(caught.value).endswith("use activation_bits=32") and "\n" not in str(caught.value)


def test_hooks_see_the_parts_of_a_traced_network() -> None:
    own = made("residual").eval()
    samples, names = samples_of(own, 4), ["blocks.0", "blocks.1", "pool"]
    again = with_activation_points(deepcopy(own), {"input": samples}, watched=names)
    seen = [watch(network, {"input": samples}, names, outputs=["logits"]).features for network in (own, again)]
    assert list(seen[0]) == ["pool", "blocks.0", "blocks.1"]
    torch.testing.assert_close(*seen, rtol=0, atol=0)


def test_a_learned_step_never_passes_the_end_of_a_clipped_activation(tmp_path: Path) -> None:
    own = made("depthwise")
    network, samples = traced(own), samples_of(own)
    bits = bits_by_layer(weight_layers(network, {"input": samples}), weight_bits=8)
    make_aware_(network, method="lsq", bits=bits, activation_bits=8, calibration={"input": samples})
    steps = [module for module in network.modules() if isinstance(module, LearnedStepActivation)]
    with torch.no_grad():
        for step in steps:
            step.log_step += 5
    assert [step.scale_and_zero_point()[0] <= 6.000001 / 255 for step in steps].count(True) == 1
    network_file(network.eval(), own, tmp_path, bits=bits, compare=False)


def test_points_of_the_user_stay() -> None:
    own = nn.Sequential(nn.Linear(4, 4), ActivationPoint(), nn.Linear(4, 2))
    assert with_activation_points(own, {"input": torch.zeros(2, 4)}) is own


MASK = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("mask", [None, MASK, torch.zeros(5, 5).masked_fill(MASK, -1e9)], ids=["all", "bool", "float"])
def test_attention_by_layers_is_attention(batch_first: bool, same: bool, mask: Tensor | None) -> None:
    torch.manual_seed(0)
    sizes = {} if same else {"kdim": 6, "vdim": 7}
    attention = nn.MultiheadAttention(8, 2, batch_first=batch_first, **sizes).eval()
    layers = SeparateAttention(attention)
    query = torch.randn(3, 5, 8) if batch_first else torch.randn(5, 3, 8)
    given = (
        (query, query, query) if same else (query, torch.randn(*query.shape[:2], 6), torch.randn(*query.shape[:2], 7))
    )
    padding = torch.zeros(3, 5, dtype=torch.bool) if mask is None or mask.dtype == torch.bool else torch.zeros(3, 5)
    padding[1, 4] = True if padding.dtype == torch.bool else -1e9
    with torch.no_grad():
        found, expected = (each(*given, attn_mask=mask, key_padding_mask=padding) for each in (layers, attention))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert {id(value) for value in layers.out_proj.parameters()} == {
        id(each) for each in attention.out_proj.parameters()
    }
