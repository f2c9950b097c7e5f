"""OpenVINO as a device: the answers of onnxruntime for the same files, integer kernels, and settings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from image_files import predict_logits, signature_of
from nas_compress.devices.table import open_device
from nas_compress.errors import FloatKernelError, RequestError
from nas_compress.measurement.pipeline import Stopwatch, write_file
from nas_compress.models.features import ObservableNetwork
from nas_compress.values.device_settings import DeviceSettings
from nas_compress.values.precision import Precision
from running import own_cache  # noqa: F401

SHAPE = (1, 8, 8)
IMAGES = torch.randint(0, 17, (48, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

MakeNetwork = Callable[..., ObservableNetwork]


def _written(network: ObservableNetwork, path: Path, *, weight_bits: int, activation_bits: int = 32) -> Path:
    write_file(
        network,
        path,
        signature=signature_of(network, SHAPE),
        precision=Precision(weight_bits=weight_bits, activation_bits=activation_bits),
        calibration={"input": IMAGES},
        watch=Stopwatch(),
    )
    return path


@pytest.mark.parametrize("family", ["resnet", "mobilenet", "vit", "mlp"])
def test_a_file_of_any_bits_gives_the_answers_of_onnxruntime(
    family: str, make_network: MakeNetwork, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    device = open_device("openvino")
    for bits in (32, 8, 4, 2, 1):
        path = _written(make_network(family), tmp_path / f"{bits}.onnx", weight_bits=bits)
        (found,) = device.answers(path)({"input": IMAGES.numpy()}).values()  # type: ignore[attr-defined]
        expected = predict_logits(path, IMAGES.numpy())
        assert found == pytest.approx(expected, abs=1e-3 * max(1.0, float(np.abs(expected).max()))), bits


@pytest.mark.parametrize("family", ["resnet", "mobilenet", "vit", "mlp"])
def test_integer_files_run_on_integer_kernels(family: str, make_network: MakeNetwork, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from nas_compress.devices.openvino.kernel_check import INTEGERS, weight_products

    device = open_device("openvino")
    for bits in (8, 4, 1):
        path = _written(make_network(family), tmp_path / f"{bits}.onnx", weight_bits=bits, activation_bits=8)
        device.check(path, activation_bits=8)
        kinds = weight_products(path)
        assert kinds and {precision for _, precision, _ in kinds} <= INTEGERS
        (found,) = device.answers(path)({"input": IMAGES.numpy()}).values()  # type: ignore[attr-defined]
        assert (found.argmax(1) == predict_logits(path, IMAGES.numpy()).argmax(1)).mean() >= 0.9


def test_a_float_file_is_no_integer_file(make_network: MakeNetwork, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = _written(make_network("mlp"), tmp_path / "m.onnx", weight_bits=32)
    open_device("openvino").check(path, activation_bits=32)
    with pytest.raises(FloatKernelError, match=r"must multiply no weights in float, but got .*m\.onnx"):
        open_device("openvino").check(path, activation_bits=8)


def test_execution_providers_and_broken_files_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(RequestError, match="providers belong to onnxruntime"):
        open_device("openvino", DeviceSettings(providers=("CUDAExecutionProvider",)), where="study.toml: device.x")
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(RequestError, match="must be an ONNX model"):
        open_device("openvino").latency(tmp_path / "m.onnx")


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RequestError, match=r"pip install 'nas-compress\[openvino\]' \(study.toml: target\)"):
        open_device("openvino", where="study.toml: target")
