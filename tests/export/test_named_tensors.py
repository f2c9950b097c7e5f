"""A file of two inputs of different types and ranks, a free length and two outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_compress.devices.onnx_session import file_signature, open_session
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.errors import RequestError
from nas_compress.export.onnx_file import export_onnx
from nas_compress.measurement.file_latency import measure_latency
from nas_compress.measurement.graph_key import structure_key
from nas_compress.measurement.predictions import predict
from nas_compress.models.layers import ActivationPoint
from nas_compress.models.macs import count_macs
from nas_compress.quantization.quantize import quantize
from nas_compress.tasks.batch import free_sizes, rows
from nas_compress.values.signature import Signature, TensorSpec
from timing import meter_with_level

SIGNATURE = Signature(
    inputs=(
        TensorSpec(name="tokens", dtype="int64", shape=("N", "length")),
        TensorSpec(name="features", dtype="float32", shape=("N", 4)),
    ),
    outputs=(
        TensorSpec(name="label", dtype="float32", shape=("N", 3)),
        TensorSpec(name="tags", dtype="float32", shape=("N", "length", 2)),
    ),
)
BATCH = {
    "tokens": torch.randint(0, 10, (6, 7), generator=torch.Generator().manual_seed(0)),
    "features": torch.randn(6, 4, generator=torch.Generator().manual_seed(1)),
}


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mix = nn.Embedding(10, 8), nn.Linear(4, 8)
        self.label, self.tags = nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, tokens: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        values = self.embedding(tokens) + self.mix(features).unsqueeze(1)
        return self.label(values.mean(dim=1)), self.tags(torch.relu(values))


@pytest.fixture(scope="module")
def tagger() -> nn.Module:
    torch.manual_seed(0)
    return Tagger().eval()


@pytest.fixture(scope="module")
def file(tagger: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("named") / "m.onnx"
    export_onnx(tagger, SIGNATURE, path)
    return path


@pytest.mark.parametrize("length", [1, 7, 12])
def test_a_file_answers_like_its_module_at_every_length(tagger: nn.Module, file: Path, length: int) -> None:
    tokens = torch.randint(0, 10, (5, length))
    found = predict(file, {"tokens": tokens.numpy(), "features": BATCH["features"][:5].numpy()})
    with torch.no_grad():
        expected = tagger(tokens, BATCH["features"][:5])
    assert list(found) == ["label", "tags"]
    for values, wanted in zip(found.values(), expected, strict=True):
        assert np.allclose(values, wanted.numpy(), atol=1e-5)


def test_both_exporters_keep_names_and_free_dimensions(tagger: nn.Module, file: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    export_onnx(tagger, SIGNATURE, tmp_path / "dynamo.onnx", backend="dynamo")
    assert file_signature(file) == file_signature(tmp_path / "dynamo.onnx") == SIGNATURE
    inputs = {name: tensor.numpy() for name, tensor in BATCH.items()}
    answers = (predict(path, inputs).values() for path in (file, tmp_path / "dynamo.onnx"))
    for first, second in zip(*answers, strict=True):
        assert np.allclose(first, second, atol=1e-5)


class Named(nn.Module):
    """Outputs named like a layer and like the short names of a file."""

    def __init__(self) -> None:
        super().__init__()
        self.points = nn.ModuleList(ActivationPoint() for _ in range(2))
        self.hidden, self.total = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        values = torch.relu(self.hidden(self.points[0](a + b)))
        return self.total(self.points[1](values)), values.mean(dim=1)


@pytest.mark.parametrize("activation_bits", [8, 32])
def test_names_of_tensors_do_not_collide_with_those_in_a_file(tmp_path: Path, activation_bits: int) -> None:
    torch.manual_seed(0)
    ends = {"a": ("N", 4), "b": ("N", 4), "total": ("N", 1), "c": ("N",)}
    specs = [TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in ends.items()]
    signature = Signature(inputs=tuple(specs[:2]), outputs=tuple(specs[2:]))
    batch = {name: torch.randn(16, 4) for name in "ab"}
    network = quantize(Named().eval(), weight_bits=8, activation_bits=activation_bits, calibration=batch)
    export_onnx(network, signature, tmp_path / "m.onnx")
    found = predict(tmp_path / "m.onnx", {name: tensor.numpy() for name, tensor in batch.items()})
    with torch.no_grad():
        expected = network(*batch.values())
    for values, wanted in zip(found.values(), expected, strict=True):
        assert np.allclose(
            values, wanted.numpy(), atol=1e-5 if activation_bits == 32 else 0.5
        )  # kernels of some processors saturate


def test_latency_is_that_of_the_given_length(file: Path, tmp_path: Path) -> None:
    device = OnnxruntimeCpu(meter_with_level(tmp_path, 1e6))
    sizes = free_sizes(BATCH, SIGNATURE.inputs)
    assert sizes == {"length": 7}
    first = measure_latency(file, device, sizes=sizes)
    assert first.latency_ms > 0 and measure_latency(file, device, sizes=sizes) == first
    with pytest.raises(RequestError, match="length"):
        device.latency(file, key=structure_key(file))


def test_multiply_adds_follow_the_length(tagger: nn.Module) -> None:
    macs = [count_macs(tagger, {**rows(BATCH, 0, 1), "tokens": BATCH["tokens"][:1, :length]}) for length in (1, 7)]
    assert macs[1] - macs[0] == 6 * (8 * 2 + 2)


def test_other_inputs_and_outputs_are_refused(tagger: nn.Module, file: Path, tmp_path: Path) -> None:
    inputs = {name: tensor.numpy() for name, tensor in BATCH.items()}
    with pytest.raises(RequestError, match="inputs must be tokens, features, but got tokens"):
        predict(file, {"tokens": inputs["tokens"]})
    with pytest.raises(RequestError, match=r"features must be float32 \(N, 4\)"):
        predict(file, {**inputs, "features": inputs["features"].astype(np.float64)})
    with pytest.raises(RequestError, match="inputs input, but got"):
        open_session(file, signature=Signature.of_images((1, 8, 8), classes=3))
    other = Signature(inputs=SIGNATURE.inputs, outputs=SIGNATURE.outputs[:1])
    with pytest.raises(RequestError, match=r"must return 1 outputs \(label\), but got 2"):
        export_onnx(tagger, other, tmp_path / "m.onnx")
