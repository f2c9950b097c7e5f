"""A vision transformer's file: integer products of weights, float attention, any pooling, both exporters."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from image_files import check_images, export_images, predict_logits
from nas_compress.devices.onnxruntime_cpu.kernel_check import (
    float_kernels,
    optimised_operators,
    require_integer_kernels,
)
from nas_compress.errors import FloatKernelError
from nas_compress.measurement.graph_key import structure_key
from nas_compress.models.factorised import factorise_
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.models.features import ObservableNetwork
from nas_compress.quantization.layer_bits import weight_layers
from nas_compress.quantization.modules import StoredLinear
from nas_compress.quantization.quantize import quantize
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.family_settings import TransformerSettings
from nas_compress.values.precision import WEIGHT_BITS

BITS = [(32, 32), (8, 32), (8, 8)]
KINDS = tuple(itertools.product(("mean", "class_token"), (False, True)))
SHAPE = (1, 8, 8)
DEPTH = 2


def samples(count: int = 64, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.randint(0, 17, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def network(
    pooling: str = "mean",
    distillation_token: bool = False,
    *,
    shape: tuple[int, int, int] = SHAPE,
    heads: int = 2,
    depth: int = DEPTH,
    sharing: str = "none",
) -> ObservableNetwork:
    torch.manual_seed(0)
    layers = FAMILIES["vit"].layers((depth,), (16,))
    return build_student(
        Architecture.of_images(
            shape,
            family="vit",
            classes=10,
            depths=(depth,),
            widths=tuple(Width(layer=layer, asked=base, channels=base) for layer, base in layers),
            mean=5,
            std=6.0,
            settings=TransformerSettings(
                heads=heads, pooling=pooling, distillation_token=distillation_token, sharing=sharing
            ),
        )
    ).eval()


def quantized(
    module: nn.Module, bits: tuple[int, int], shape: tuple[int, int, int] = SHAPE, ranges: str = "min_max"
) -> nn.Module:
    calibration = {"input": samples(shape=shape)}
    return quantize(module, weight_bits=bits[0], activation_bits=bits[1], calibration=calibration, ranges=ranges)


@pytest.mark.parametrize("layers", ["none", "low_rank"])
@pytest.mark.parametrize("pooling", ["mean", "class_token"])
def test_a_file_that_finds_ranges_multiplies_integers_and_answers_as_the_module(
    pooling: str, layers: str, tmp_path: Path
) -> None:
    path, images = tmp_path / "model.onnx", samples(6)
    whole = network(pooling)
    if layers != "none":
        factorise_(whole, rank_fraction=0.5, kind=layers)
    # of at most 6 bits: no processor saturates
    module = quantize(
        whole, weight_bits=6, activation_bits=8, calibration={"input": samples()}, ranges="dynamic",
        layer_bits=dict.fromkeys(weight_layers(whole), 6),
    )  # fmt: skip
    export_images(module, SHAPE, path)
    with torch.no_grad():
        wanted = module(images).numpy()
    alone = predict_logits(path, images.numpy())  # one sample at a time
    np.testing.assert_allclose(alone, wanted, rtol=0, atol=5e-3)  # a tie may fall on the other side
    assert float_kernels(path) == ()
    operators = optimised_operators(path)
    assert operators.count("ConvInteger") == 1
    products = operators.count("DynamicQuantizeMatMul") + operators.count("MatMulIntegerToFloat")
    assert products == sum(isinstance(each, StoredLinear) for each in module.modules())


@pytest.mark.parametrize(("pooling", "distillation_token"), KINDS)
def test_every_weight_is_multiplied_in_integers(tmp_path: Path, pooling: str, distillation_token: bool) -> None:
    path = tmp_path / "m.onnx"
    module = quantized(network(pooling, distillation_token), (8, 8))
    export_images(module, SHAPE, path)
    operators = optimised_operators(path)
    assert operators.count("QLinearConv") == 1
    assert operators.count("QGemm") == 6 * DEPTH + 1 + distillation_token
    # queries with keys, attention with values
    assert operators.count("FusedMatMul") + operators.count("MatMul") == 2 * DEPTH
    assert {"Softmax", "Gelu", "LayerNormalization"} < set(operators) and "Gemm" not in operators
    require_integer_kernels(path)
    check_images(module, path, samples(300))


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 7, 5)])
@pytest.mark.parametrize("bits", BITS)
def test_any_input_has_its_file(tmp_path: Path, shape: tuple[int, int, int], bits: tuple[int, int]) -> None:
    path = tmp_path / "m.onnx"
    module = quantized(network("class_token", True, shape=shape), bits, shape)
    export_images(module, shape, path)
    check_images(module, path, samples(64, shape))
    if bits == (8, 8):
        assert float_kernels(path) == ()


def stored_bytes(path: Path) -> int:
    """Of the tensors of a file without the graph's own numbers: shapes, and scales and zeros of activations."""
    stored = [tensor for tensor in onnx.load(path).graph.initializer if tensor.data_type != onnx.TensorProto.INT64]
    return sum(len(tensor.raw_data) for tensor in stored if tensor.dims)


FEW = ((32, 32), (8, 8), (3, 8), (1, 8))
OTHERS = [
    (8, 32),
    *((bits, 32 if bits in (16, 5) else 8) for bits in WEIGHT_BITS if (bits, 8) not in FEW and bits < 32),
]


@pytest.mark.parametrize(
    ("sharing", "bits"),
    [
        *(("all", bits) for bits in FEW),
        *(pytest.param("all", bits, marks=pytest.mark.slow) for bits in OTHERS),
        ("attention", (8, 8)),
        ("mlp", (3, 32)),
    ],
)
def test_shared_weights_are_stored_once(tmp_path: Path, sharing: str, bits: tuple[int, int]) -> None:
    path = tmp_path / "m.onnx"
    found = []
    for depth in (1, 2, 3):
        module = quantized(network(depth=depth, sharing=sharing), bits)
        export_images(module, SHAPE, path)
        found.append((stored_bytes(path), path.stat().st_size, len(onnx.load(path).graph.node)))
    check_images(module, path, samples(100))
    assert bits[1] == 32 or float_kernels(path) == ()
    (one, _, _), (two, size, nodes), (three, larger, more) = found
    if sharing == "all":
        assert one == two == three
        assert larger - size < 100 * (more - nodes), "the graph grows, by its nodes"
    else:
        export_images(quantized(network(depth=3), bits), SHAPE, path)
        unshared = stored_bytes(path)
        assert two - one == three - two > 0 and unshared - three > (three - one) / 2


class OneFloatLayer(nn.Module):
    """A product of two computed tensors, and one with stored weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = nn.Parameter(torch.randn(8, 10))

    def forward(self, values: Tensor) -> Tensor:
        rows = values.float().reshape(-1, 8, 8)
        return (rows @ rows.transpose(1, 2)).mean(1) @ self.stored


def test_a_float_product_of_weights_is_found_beside_attention(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    export_images(OneFloatLayer().eval(), SHAPE, path)
    assert len({"MatMul", "FusedMatMul", "Gemm"}.intersection(optimised_operators(path))) >= 1
    assert len(float_kernels(path)) == 1
    export_images(network(), SHAPE, path)
    with pytest.raises(FloatKernelError, match="must multiply no weights in float, but got Conv, Gemm"):
        require_integer_kernels(path)
    assert len(float_kernels(path)) == 2 + 6 * DEPTH


@pytest.mark.parametrize("bits", BITS)
def test_fresh_and_trained_files_have_one_structure_and_size(tmp_path: Path, bits: tuple[int, int]) -> None:
    """An exporter may store equal tensors once, and fresh biases and scales are all equal."""
    fresh, trained = network("class_token", True), network("class_token", True)
    with torch.no_grad():
        for value in trained.parameters():
            value.add_(0.1 * torch.randn_like(value))
    found = []
    for number, module in enumerate((fresh, trained)):
        path = tmp_path / f"{number}.onnx"
        export_images(quantized(module, bits), SHAPE, path)
        found.append((structure_key(path), path.stat().st_size))
    assert found[0] == found[1]
    other = tmp_path / "other.onnx"
    export_images(quantized(network("class_token", True, heads=4), bits), SHAPE, other)
    assert structure_key(other) != found[0][0], "the number of heads changes the work, not the weights"


@pytest.mark.parametrize("bits", BITS)
def test_bytes_are_the_weights_and_a_little_more(tmp_path: Path, bits: tuple[int, int]) -> None:
    module, path = quantized(network("class_token", True), bits), tmp_path / "m.onnx"
    export_images(module, SHAPE, path)
    payload = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    assert payload < path.stat().st_size < payload + 100 * len(onnx.load(path).graph.node)
    assert not {"Shape", "Identity", "Sqrt", "Unsqueeze"}.intersection(
        node.op_type for node in onnx.load(path).graph.node
    )


@pytest.mark.parametrize("bits", [pytest.param((32, 32), marks=pytest.mark.slow), (8, 8)])
def test_both_backends_write_the_same_function(tmp_path: Path, bits: tuple[int, int]) -> None:
    if importlib.util.find_spec("onnxscript") is None:
        pytest.skip("the newer exporter needs onnxscript")
    module = quantized(network("class_token", True), bits)
    for backend in ("torchscript", "dynamo"):
        export_images(module, SHAPE, tmp_path / backend, backend=backend)
    first, second = (predict_logits(tmp_path / backend, samples().numpy()) for backend in ("torchscript", "dynamo"))
    assert np.abs(first - second).max() < (0.05 if bits == (8, 8) else 1e-5)
    if bits == (8, 8):
        assert float_kernels(tmp_path / "dynamo") == ()
