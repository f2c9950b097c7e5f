from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from nas_compress.models.onednn_workaround import safe_backward
from nas_compress.quantization.trainable_modules import FakeQuantConv2d

TRAINING = """
import torch
from torch import nn
from nas_compress.data.load_dataset import load_dataset
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective
from nas_compress.values.candidate import cross_entropy

class Narrow(nn.Sequential):
    def forward(self, samples):
        return super().forward(samples.float())

torch.set_num_threads(1)
data = load_dataset(name="digits", shift=0)
pixels = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 1, stride=2)
train(Narrow(*pixels, nn.Flatten(), nn.Linear(128, 10)), data.train, data.augmentation, epochs=4, batch_size=32,
      objective=LossObjective(TrainingLoss(data.task, cross_entropy())), learning_rate=0.01, weight_decay=0.01, seed=0)
print("trained")
"""


@pytest.mark.slow
def test_training_with_a_narrow_strided_convolution_leaves_memory_intact() -> None:
    """A process of its own, because without the change it crashes on CPUs with AVX2 or AVX-512."""
    ended = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, "trained"), ended.stderr[-500:]


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(("channels", "side", "stride"), [(1, 8, 2), (4, 8, 2), (4, 7, 2), (6, 16, (1, 2)), (7, 9, 3)])
def test_values_and_gradients_are_those_of_the_layer(
    channels: int, side: int, stride: int | tuple[int, int], quantized: bool
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, 8, 1, stride=stride).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    samples = torch.randn(32, channels, side, side).to(memory_format=torch.channels_last)
    reference = copy.deepcopy(conv).double()
    expected = reference(samples.double())
    expected.square().sum().backward()

    network = nn.Sequential(FakeQuantConv2d(conv, nn.Identity()) if quantized else conv)  # type: ignore[arg-type]
    before = network[0].stride
    with safe_backward(network):
        assert network[0].stride == (1, 1)
        values = network(samples)
        values.square().sum().backward()
    assert torch.allclose(values.double(), expected, atol=1e-5)
    assert conv.weight.grad is not None and reference.weight.grad is not None
    assert torch.allclose(conv.weight.grad.double(), reference.weight.grad, rtol=1e-4, atol=1e-2)
    assert network[0].stride == before and not network[0]._forward_pre_hooks


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 8, 1, stride=2),
        nn.Conv2d(4, 8, 1),
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.Conv2d(4, 8, 1, stride=2, padding=1),
        nn.Conv2d(4, 8, 1, stride=2, groups=2),
        nn.ConvTranspose2d(8, 4, 1, stride=2),
    ],
)
def test_other_layers_stay(layer: nn.Conv2d) -> None:
    before = layer.stride
    with safe_backward(layer):
        assert layer.stride == before and not layer._forward_pre_hooks


def test_layers_are_restored_after_an_error() -> None:
    layer = nn.Conv2d(4, 8, 1, stride=2)
    with pytest.raises(KeyError), safe_backward(layer):
        raise KeyError
    assert layer.stride == (2, 2) and not layer._forward_pre_hooks


@pytest.mark.parametrize(
    ("capability", "limited", "floats"), [("AVX2", False, 8), ("AVX2", True, 16), ("AVX512", False, 16)]
)
def test_vector_of_the_cpu(monkeypatch: pytest.MonkeyPatch, capability: str, limited: bool, floats: int) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    if limited:
        monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    layer = nn.Conv2d(floats - 1, 8, 1, stride=2)
    wide = nn.Conv2d(floats, 8, 1, stride=2)
    with safe_backward(nn.ModuleList([layer, wide])):
        assert layer.stride == (1, 1) and wide.stride == (2, 2)
