from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from image_files import check_images, export_images, predict_logits
from nas_compress.devices.onnxruntime_cpu.kernel_check import float_kernels, optimised_operators
from nas_compress.errors import RequestError, RunError
from nas_compress.export.onnx_file import export_onnx
from nas_compress.quantization.modules import IntegerWeight
from nas_compress.quantization.quantize import quantize
from nas_compress.values.signature import Signature

FAMILIES = ["resnet", "mobilenet"]
BITS = [(32, 32), (8, 32), (8, 8)]


def _samples(count: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.randint(0, 17, (count, *shape), dtype=torch.uint8)


def _quantized(network: nn.Module, bits: tuple[int, int], shape: tuple[int, int, int] = (1, 8, 8)) -> nn.Module:
    torch.manual_seed(11)
    return quantize(network, weight_bits=bits[0], activation_bits=bits[1], calibration={"input": _samples(64, shape)})


def _convolutions(network: nn.Module) -> int:
    return sum(isinstance(module, nn.Conv2d) for module in network.modules())


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 7, 5)])
@pytest.mark.parametrize("depths", [(1, 1, 1), (2, 1, 2)])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_integer_file_runs_in_integers(
    make_network, tmp_path: Path, family: str, depths: tuple[int, ...], shape: tuple[int, int, int]
) -> None:
    network = make_network(family, depths=depths, shape=shape)
    export_images(_quantized(network, (8, 8), shape), shape, tmp_path / "m.onnx")
    operators = optimised_operators(tmp_path / "m.onnx")
    additions = sum(depths) if family == "resnet" else sum(depths) - len(depths)
    assert operators.count("QLinearConv") == _convolutions(network)
    assert operators.count("QLinearAdd") == additions
    assert operators.count("QLinearGlobalAveragePool") == operators.count("QGemm") == 1
    assert set(operators) <= {
        "QLinearConv",
        "QLinearAdd",
        "QLinearGlobalAveragePool",
        "QGemm",
        "Transpose",
        "Reshape",
    }
    assert float_kernels(tmp_path / "m.onnx") == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_stored_integers_are_those_of_the_module(make_network, tmp_path: Path, family: str) -> None:
    for bits in ((8, 32), (8, 8)):
        module = _quantized(make_network(family), bits)
        export_images(module, (1, 8, 8), tmp_path / "m.onnx")
        stored = onnx.load(tmp_path / "m.onnx").graph.initializer
        tensors = [numpy_helper.to_array(tensor) for tensor in stored if len(tensor.dims) > 1]
        integers = {tensor.tobytes() for tensor in tensors if tensor.dtype == np.int8}
        expected = [part.integers for part in module.modules() if isinstance(part, IntegerWeight)]
        assert {tensor.numpy().tobytes() for tensor in expected} == integers
        # What is left in float beside them are scales: one number an output channel.
        assert all(tensor.size == len(tensor) for tensor in tensors if tensor.dtype != np.int8)


@pytest.mark.parametrize("family", FAMILIES)
def test_weight_only_file_computes_as_a_float_file_does(make_network, tmp_path: Path, family: str) -> None:
    network = make_network(family)
    for name, bits in (("float", (32, 32)), ("weights", (8, 32))):
        export_images(_quantized(network, bits), (1, 8, 8), tmp_path / f"{name}.onnx")
    assert optimised_operators(tmp_path / "weights.onnx") == optimised_operators(tmp_path / "float.onnx")


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_are_the_weights_and_a_little_more(make_network, tmp_path: Path, family: str, bits) -> None:
    module = _quantized(make_network(family), bits)
    path = tmp_path / "m.onnx"
    export_images(module, (1, 8, 8), path)
    payload = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    nodes = len(onnx.load(path).graph.node)
    assert payload < path.stat().st_size < payload + 100 * nodes


@pytest.mark.parametrize("bits", BITS)
def test_size_does_not_depend_on_the_weights(make_network, tmp_path: Path, bits) -> None:
    sizes = set()
    for seed in range(2):
        export_images(_quantized(make_network("resnet", seed=seed), bits), (1, 8, 8), tmp_path / "m.onnx")
        sizes.add((tmp_path / "m.onnx").stat().st_size)
    assert len(sizes) == 1


@pytest.mark.parametrize("bits", BITS)
def test_file_keeps_its_promises(make_network, tmp_path: Path, bits) -> None:
    path = tmp_path / "m.onnx"
    export_images(_quantized(make_network("resnet"), bits), (1, 8, 8), path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [path] == list(tmp_path.iterdir())
    assert model.ir_version <= 13 and [entry.version for entry in model.opset_import] == [20]
    ends = [
        [size.dim_param or size.dim_value for size in end.type.tensor_type.shape.dim]
        for end in (*model.graph.input, *model.graph.output)
    ]
    assert ends == [["N", 1, 8, 8], ["N", 10]]
    assert not model.metadata_props and not model.producer_name and not model.graph.value_info
    assert all(not node.name and not node.doc_string and not node.metadata_props for node in model.graph.node)
    assert all(len(name) <= 4 for node in model.graph.node for name in node.output if name != "logits")
    content = path.read_bytes()
    assert not any(mark in content for mark in (b"/stages", b"torch", b"stages", b"classifier"))


def test_any_number_of_samples_gives_the_same_answers(make_network, tmp_path: Path) -> None:
    samples = _samples(300, (1, 8, 8)).numpy()
    for bits in BITS:
        export_images(_quantized(make_network("resnet"), bits), (1, 8, 8), tmp_path / "m.onnx")
        together = predict_logits(tmp_path / "m.onnx", samples)
        alone = np.concatenate([predict_logits(tmp_path / "m.onnx", samples[i : i + 1]) for i in range(3)])
        assert together.shape == (300, 10) and together.dtype == np.float32
        assert np.allclose(together[:3], alone, atol=1e-5)


@pytest.mark.parametrize("bits", BITS)
def test_same_weights_same_bytes(make_network, tmp_path: Path, bits) -> None:
    module = _quantized(make_network("mobilenet"), bits)
    for name in ("first", "second"):
        export_images(module, (1, 8, 8), tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


SCRIPT = """
import sys, torch
from pathlib import Path
from nas_compress.export.onnx_file import export_onnx
from nas_compress.values.signature import Signature
from nas_compress.models.layers import ConvUnit, Head, RawInput
from nas_compress.quantization.quantize import quantize
torch.manual_seed(0)
network = torch.nn.Sequential(RawInput(5, 6.0), ConvUnit(1, 8), Head(8, 10))
samples = torch.randint(0, 17, (8, 1, 8, 8), dtype=torch.uint8)
quantized = quantize(network, weight_bits=8, activation_bits=8, calibration={"input": samples})
export_onnx(quantized, Signature.of_images((1, 8, 8), classes=10), Path(sys.argv[1]))
"""


def test_two_processes_write_the_same_bytes_and_no_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "first")]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert (process.returncode, process.stdout) == (0, b"")
    monkeypatch.setattr(sys, "argv", ["-c", str(tmp_path / "second")])
    exec(SCRIPT, {})
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


class Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.9))
        self.hidden, self.head = nn.Linear(4 * 36, 12), nn.Linear(12, 3)

    def forward(self, samples: Tensor) -> Tensor:
        values = self.body(samples.float() / 16)
        return self.head(torch.relu(self.hidden(values.flatten(1))))


@pytest.mark.parametrize("bits", [(32, 32), (8, 32)])
def test_foreign_network_in_training_mode_is_exported_for_evaluation(tmp_path: Path, bits) -> None:
    torch.manual_seed(1)
    network, samples = Foreign(), _samples(200, (1, 8, 8))
    module = quantize(network, weight_bits=bits[0], activation_bits=bits[1], calibration=None)
    export_images(module, (1, 8, 8), tmp_path / "quantized.onnx")
    check_images(module, tmp_path / "quantized.onnx", samples)
    export_images(network, (1, 8, 8), tmp_path / "plain.onnx")
    check_images(network, tmp_path / "plain.onnx", samples)
    assert network.training and network.body[3].training


class Named(nn.Module):
    def forward(self, samples: Tensor) -> dict[str, Tensor]:
        return {"logits": samples}


def test_module_that_answers_no_logits_is_refused(tmp_path: Path) -> None:
    images = Signature.of_images((1, 8, 8), classes=10)
    for module, message in (
        (nn.Identity(), r"logits must be float32 \(2, 10\), but got uint8 \(2, 1, 8, 8\)"),
        (Named(), "dict"),
    ):
        with pytest.raises(RequestError, match=message):
            export_onnx(module, images, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_unknown_backend_is_refused(make_network, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="did you mean 'dynamo'"):
        export_images(make_network("resnet"), (1, 8, 8), tmp_path / "m.onnx", backend="dynamoo")


def test_folder_that_is_a_file_stops_the_run(make_network, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match="taken"):
        export_images(make_network("resnet"), (1, 8, 8), tmp_path / "taken" / "m.onnx")
