"""Weights of every width in the file: bit by bit, in few bytes, and gone when the runtime has loaded them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from image_files import check_images, export_images, image_steps, predict_logits
from nas_compress.devices.onnxruntime_cpu.kernel_check import float_kernels, optimised_operators
from nas_compress.export.weight_formats import Layout
from nas_compress.measurement.graph_key import structure_key
from nas_compress.models.layers import ActivationPoint, ConvUnit, Head, RawInput
from nas_compress.quantization.modules import IntegerWeight
from nas_compress.quantization.quantize import quantize
from nas_compress.training.sparsity import with_zeros
from nas_compress.values.precision import precisions

PACKED = [6, 5, 4, 3, 2, 1]
SAMPLES = torch.randint(0, 17, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
every_width = pytest.mark.parametrize("bits", PACKED)
every_activation = pytest.mark.parametrize("activation_bits", [32, 8])
slow = pytest.mark.slow


class Awkward(nn.Module):
    """Odd channels, depthwise, 1x1, a bias without normalisation, linear layers of odd sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.raw_input = RawInput(5, 6.0)
        self.stem = ConvUnit(1, 7)
        self.depthwise = ConvUnit(7, 7, groups=7, stride=2)
        self.pointwise = ConvUnit(7, 5, kernel=1)
        self.biased = nn.Sequential(nn.Conv2d(5, 3, 2), nn.ReLU(), ActivationPoint())
        self.single = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), ActivationPoint())
        self.wide = nn.Sequential(nn.Conv2d(1, 11, (1, 3)), ActivationPoint())
        self.head = Head(11, 10)

    def forward(self, samples: Tensor) -> Tensor:
        values = self.pointwise(self.depthwise(self.stem(self.raw_input(samples))))
        return self.head(self.wide(self.single(self.biased(values))))


def awkward() -> nn.Module:
    torch.manual_seed(4)
    network = Awkward()
    for _ in range(3):
        network(SAMPLES)
    return network.eval()


def write(network: nn.Module, bits: int, activation_bits: int, path: Path, weight_format: str = "integer") -> nn.Module:
    module = quantize(
        network,
        weight_bits=bits,
        activation_bits=activation_bits,
        calibration={"input": SAMPLES},
        weight_format=weight_format,
    )
    export_images(module, (1, 8, 8), path)
    return module


def unpacked_by_the_runtime(path: Path) -> list[np.ndarray]:
    """What reaches the layers: every weight before its scale, computed by onnxruntime without any optimisation."""
    model = onnx.load(path)
    stored = {tensor.name for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}

    def rests_on_stored(name: str) -> bool:
        return name in stored or (name in makers and all(map(rests_on_stored, makers[name].input)))

    scaled = [node for node in model.graph.node if node.op_type in ("DequantizeLinear", "Mul")]
    names = [node.input[0] for node in scaled if rests_on_stored(node.input[0])]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in stored)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, {"input": SAMPLES[:1].numpy()})]


@every_activation
@every_width
def test_the_runtime_unpacks_the_very_integers_of_the_module(tmp_path: Path, bits: int, activation_bits: int) -> None:
    module = write(awkward(), bits, activation_bits, tmp_path / "m.onnx")
    weights = [part for part in module.modules() if isinstance(part, IntegerWeight) and part.bits == bits]
    found = unpacked_by_the_runtime(tmp_path / "m.onnx")
    assert len(weights) == 5
    for weight in weights:
        integers = weight.integers.numpy()
        assert any(value.shape == integers.shape and np.array_equal(value, integers) for value in found)
    stored = [tensor for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer if tensor.dims]
    packed = [tensor for tensor in stored if tensor.data_type == onnx.TensorProto.UINT8 and len(tensor.dims) == 2]
    count = sum(weight.integers.numel() for weight in weights)
    assert sum(len(tensor.raw_data) for tensor in packed) == -(-count // 8) * bits


@every_activation
@pytest.mark.parametrize("bits", [pytest.param(bits, marks=() if bits in (1, 3) else slow) for bits in PACKED])
@pytest.mark.parametrize("family", ["resnet", "mobilenet"])
def test_the_optimised_graph_is_that_of_8_bits(
    make_network, tmp_path: Path, family: str, bits: int, activation_bits: int
) -> None:
    network = make_network(family)
    for width in (8, bits):
        write(network, width, activation_bits, tmp_path / f"{width}.onnx")
    operators = optimised_operators(tmp_path / f"{bits}.onnx")
    assert operators == optimised_operators(tmp_path / "8.onnx")
    if activation_bits == 8:
        assert float_kernels(tmp_path / f"{bits}.onnx") == ()


@every_activation
@every_width
def test_a_packed_file_answers_as_one_that_stores_bytes(tmp_path: Path, bits: int, activation_bits: int) -> None:
    module = write(awkward(), bits, activation_bits, tmp_path / "packed.onnx")
    for part in module.modules():
        if isinstance(part, IntegerWeight):
            part.bits = 8
    export_images(module, (1, 8, 8), tmp_path / "bytes.onnx")
    answers = [predict_logits(tmp_path / name, SAMPLES.numpy()) for name in ("packed.onnx", "bytes.onnx")]
    assert np.array_equal(answers[0], answers[1])


@pytest.mark.parametrize("bits", [*precisions(), "float8"])
def test_an_awkward_network_answers_like_its_module(tmp_path: Path, bits) -> None:
    width, activation_bits = (8, 32) if bits == "float8" else bits
    weight_format = "float8" if bits == "float8" else "integer"
    module = write(awkward(), width, activation_bits, tmp_path / "m.onnx", weight_format)
    check_images(module, tmp_path / "m.onnx", SAMPLES)


@pytest.mark.parametrize("bits", [(32, 32), (16, 32), (8, 8), (4, 32), (3, 8), "float8"], ids=str)
@pytest.mark.parametrize("zeros", [0.5, pytest.param(0.95, marks=slow)])
def test_a_file_without_its_zeros_is_smaller_and_the_same(
    make_network, tmp_path: Path, bits: tuple[int, int] | str, zeros: float
) -> None:
    network = with_zeros(make_network("resnet", shrink=2), pattern="one_shot", fraction=zeros)
    width, activation_bits = (8, 32) if isinstance(bits, str) else bits
    kind = "float8" if isinstance(bits, str) else "integer"
    module = write(network, width, activation_bits, tmp_path / "dense.onnx", kind)
    export_images(module, (1, 8, 8), tmp_path / "sparse.onnx", layout=Layout(sparse=True))
    dense, sparse = tmp_path / "dense.onnx", tmp_path / "sparse.onnx"
    assert np.array_equal(predict_logits(dense, SAMPLES.numpy()), predict_logits(sparse, SAMPLES.numpy()))
    assert optimised_operators(dense) == optimised_operators(sparse)
    assert structure_key(dense) == structure_key(sparse)
    # a bit of the mask for each weight, and what its zeros took; half of it at least
    saved = (zeros - 1 / width) * parameter_bytes(network, width)
    assert sparse.stat().st_size < dense.stat().st_size - 0.5 * saved


@every_activation
def test_codebooks_stand_once_a_layer_and_unpack_to_the_same_integers(tmp_path: Path, activation_bits: int) -> None:
    module = write(awkward(), 3, activation_bits, tmp_path / "m.onnx", "codebook")
    weights = [part for part in module.modules() if isinstance(part, IntegerWeight) and part.bits == 3]
    found = unpacked_by_the_runtime(tmp_path / "m.onnx")
    for weight in weights:
        integers = weight.integers.numpy()
        assert set(integers.reshape(-1).tolist()) <= set(weight.codebook.tolist())
        assert any(value.shape == integers.shape and np.array_equal(value, integers) for value in found)
    tables = [tensor for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer if list(tensor.dims) == [8]]
    assert sum(tensor.data_type != onnx.TensorProto.UINT8 for tensor in tables) == len(weights) == 5
    check_images(module, tmp_path / "m.onnx", SAMPLES)
    if activation_bits == 8:
        assert float_kernels(tmp_path / "m.onnx") == ()


def test_float8_is_folded_to_the_float_graph(make_network, tmp_path: Path) -> None:
    network = make_network("resnet")
    write(network, 32, 32, tmp_path / "float.onnx")
    write(network, 8, 32, tmp_path / "float8.onnx", "float8")
    assert optimised_operators(tmp_path / "float8.onnx") == optimised_operators(tmp_path / "float.onnx")
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "float8.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT8E4M3FN in kinds and onnx.TensorProto.INT8 not in kinds


def test_float8_takes_a_quarter_of_float32_step_by_step(make_network) -> None:
    network = with_zeros(make_network("resnet", shrink=2), pattern="one_shot", fraction=0.8)
    module = quantize(network, weight_bits=8, activation_bits=32, calibration=None, weight_format="float8")
    steps = image_steps(module, (1, 8, 8))
    weights = sum(parameter.numel() for parameter in network.parameters() if parameter.ndim > 1)
    assert steps["float32"] - steps["one byte each"] == pytest.approx(3 * weights, rel=0.03)
    assert steps["one byte each"] == steps["packed"]
    assert steps["without zeros"] < steps["packed"] - 0.5 * weights


def test_two_shared_values_of_which_one_is_zero_leave_it_out(make_network, tmp_path: Path) -> None:
    network = with_zeros(make_network("resnet", shrink=2), pattern="one_shot", fraction=0.9)
    module = write(network, 1, 32, tmp_path / "dense.onnx", "codebook")
    export_images(module, (1, 8, 8), tmp_path / "sparse.onnx", layout=Layout(sparse=True))
    dense, sparse = tmp_path / "dense.onnx", tmp_path / "sparse.onnx"
    assert np.array_equal(predict_logits(dense, SAMPLES.numpy()), predict_logits(sparse, SAMPLES.numpy()))
    weights = [part for part in module.modules() if isinstance(part, IntegerWeight) and part.bits == 1]
    # gaps of 4 bits and the value itself for each weight that is not 0, and some on the way
    saved = (1 - 0.1 * 1.3 * 5) * sum(weight.integers.numel() for weight in weights) / 8
    assert weights and dense.stat().st_size - sparse.stat().st_size > 0.8 * saved


@pytest.mark.parametrize(("width", "zeros"), [(8, 0.2), (16, 0.1)])
def test_a_file_never_grows_by_leaving_zeros_out(make_network, width: int, zeros: float) -> None:
    # so few that the form is chosen for fewer bytes than it takes with its nodes
    network = with_zeros(make_network("resnet", shrink=8), pattern="one_shot", fraction=zeros)
    steps = image_steps(quantize(network, weight_bits=width, activation_bits=32, calibration=None), (1, 8, 8))
    assert steps["without zeros"] <= steps["packed"]


def parameter_bytes(network: nn.Module, bits: int) -> float:
    """Each parameter at its own width: weights, 8 bits in the first and last layer, and 16 for the rest."""
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    total = sum(2 * parameter.numel() for parameter in network.parameters() if parameter.ndim == 1)
    for layer in layers:
        own = max(bits, 8) if layer in (layers[0], layers[-1]) else bits
        total += layer.weight.numel() * own / 8
    return total


@pytest.mark.parametrize("bits", [pair for pair in precisions() if pair[0] < 32 and pair[1] != 4])
@pytest.mark.parametrize("family", ["resnet", pytest.param("mobilenet", marks=slow)])
def test_bytes_on_disk_are_the_bits_and_4_kilobytes(make_network, tmp_path: Path, family: str, bits) -> None:
    network = make_network(family, shrink=1 if family == "mobilenet" else 2, depths=(1, 2, 1))
    assert sum(parameter.numel() for parameter in network.parameters()) > 20_000
    write(network, *bits, tmp_path / "m.onnx")
    expected = parameter_bytes(network, bits[0]) + 4096
    assert 0.75 * expected < (tmp_path / "m.onnx").stat().st_size < 1.1 * expected


@pytest.mark.parametrize("bits", [pytest.param(bits, marks=() if bits in (1, 3) else slow) for bits in PACKED])
def test_size_and_structure_do_not_depend_on_the_weights(make_network, trained, tmp_path: Path, bits: int) -> None:
    fresh = make_network("resnet", depths=(1, 2, 1), shrink=2, seed=5)
    for name, network in (("fresh", fresh), ("trained", trained["resnet"])):
        write(network, bits, 8, tmp_path / name)
    sizes = [(tmp_path / name).stat().st_size for name in ("fresh", "trained")]
    assert abs(sizes[0] - sizes[1]) <= 16  # a zero point of 0 is stored once
    assert structure_key(tmp_path / "fresh") == structure_key(tmp_path / "trained")


def test_one_layer_in_two_places_is_stored_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shared = nn.Conv2d(8, 8, 3, padding=1)
    ends = [nn.Conv2d(1, 8, 3), nn.Linear(8, 10)]

    def network(*middle: nn.Module) -> nn.Module:
        return nn.Sequential(RawInput(5, 6.0), ends[0], *middle, nn.AdaptiveAvgPool2d(1), nn.Flatten(), ends[1])

    sizes = []
    for number, middle in enumerate([(shared,), (shared, nn.ReLU(), shared)]):
        module = write(network(*middle), 4, 32, tmp_path / str(number))
        check_images(module, tmp_path / str(number), SAMPLES)
        sizes.append((tmp_path / str(number)).stat().st_size)
    assert sizes[1] - sizes[0] < 8 * 8 * 9 * 4 / 8


READER = """
import sys, numpy, onnxruntime
assert not {"torch", "onnx", "nas_compress"} & set(sys.modules)
answers = []
for path in sys.argv[2:]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answers.append(session.run(["logits"], {"input": numpy.load(sys.argv[1])})[0])
numpy.save(sys.argv[1], numpy.stack(answers))
"""


def test_a_reader_needs_onnxruntime_and_numpy_only(tmp_path: Path) -> None:
    widths = [16, 8, *PACKED]
    modules = [write(awkward(), bits, 32, tmp_path / f"{bits}.onnx") for bits in widths]
    modules.append(write(awkward(), 8, 32, tmp_path / "float8.onnx", "float8"))
    modules.append(write(awkward(), 4, 32, tmp_path / "codebook.onnx", "codebook"))
    sparse = tmp_path / "sparse.onnx"
    modules.append(write(with_zeros(awkward(), pattern="one_shot", fraction=0.7), 16, 32, sparse))
    export_images(modules[-1], (1, 8, 8), sparse, layout=Layout(sparse=True))
    paths = [str(tmp_path / f"{name}.onnx") for name in (*widths, "float8", "codebook", "sparse")]
    np.save(tmp_path / "samples.npy", SAMPLES.numpy())
    command = [sys.executable, "-I", "-c", READER, str(tmp_path / "samples.npy"), *paths]
    subprocess.run(command, check=True, capture_output=True)
    for module, answers in zip(modules, np.load(tmp_path / "samples.npy"), strict=True):
        with torch.no_grad():
            assert np.allclose(answers, module(SAMPLES).numpy(), atol=1e-4)
