from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from image_files import export_images, predict_logits
from nas_compress.devices.onnxruntime_cpu.kernel_check import optimised_operators
from nas_compress.quantization.quantize import quantize

pytest.importorskip("onnxscript")


@pytest.mark.parametrize(
    "bits", [(3, 8), *(pytest.param(bits, marks=pytest.mark.slow) for bits in [(32, 32), (16, 32), (8, 8)])]
)
def test_both_backends_write_the_same_function(make_network, tmp_path: Path, bits: tuple[int, int]) -> None:
    samples = torch.randint(0, 17, (100, 1, 8, 8), dtype=torch.uint8)
    module = quantize(
        make_network("resnet"), weight_bits=bits[0], activation_bits=bits[1], calibration={"input": samples}
    )
    for backend in ("torchscript", "dynamo"):
        export_images(module, (1, 8, 8), tmp_path / backend, backend=backend)
    first, second = (predict_logits(tmp_path / backend, samples.numpy()) for backend in ("torchscript", "dynamo"))
    assert np.abs(first - second).max() < 1e-5
    sizes = [(tmp_path / backend).stat().st_size for backend in ("torchscript", "dynamo")]
    assert abs(sizes[0] - sizes[1]) < 1500
    assert b".py" not in (tmp_path / "dynamo").read_bytes()
    onnx.checker.check_model(onnx.load(tmp_path / "dynamo"), full_check=True)
    if bits[1] == 8:
        kernels = [sorted(optimised_operators(tmp_path / name)) for name in ("torchscript", "dynamo")]
        assert kernels[0] == kernels[1]
