"""What the exporter prints where it fails must not reach stdout, which is for data."""

import pytest
import torch
from torch import Tensor, nn

from nas_compress.export.torchscript import trace_to_onnx
from nas_compress.tasks.batch import zeros
from nas_compress.values.signature import Signature


class Eigenvalues(nn.Module):
    def forward(self, samples: Tensor) -> Tensor:
        return torch.linalg.eigvals(samples.float().mean(1)).real


def test_a_network_without_onnx_operators_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    signature = Signature.of_images((1, 4, 4), classes=4)
    with pytest.raises(torch.onnx.errors.UnsupportedOperatorError):
        trace_to_onnx(Eigenvalues().eval(), zeros(signature.inputs, 2), signature)
    torch.ones(3).sum()
    print("still here")
    assert capfd.readouterr().out == "still here\n"
