from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_compress.quantization.batchnorm_folding import fold_batch_norm_


class Foreign(nn.Module):
    """A network that knows nothing of this project; `shared` is read twice, so it may not absorb its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.shared, self.shared_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, samples: Tensor) -> Tensor:
        values = torch.relu(self.norm(self.conv(samples.float())))
        plain = self.shared(values)
        return self.head((self.shared_norm(plain) + plain).mean((2, 3)))


class Winding(Foreign):
    """Its way depends on the values, so it cannot be traced."""

    def forward(self, samples: Tensor) -> Tensor:
        if samples.float().mean() > 1e9:
            return torch.zeros(len(samples), 3)
        return super().forward(samples)


def _norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def _with_statistics(network: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
    return network.eval()


def test_families_lose_every_normalisation_and_answer_the_same(make_network) -> None:
    samples = torch.randint(0, 17, (16, 1, 8, 8), dtype=torch.uint8)
    for family in ("resnet", "mobilenet"):
        network = _with_statistics(make_network(family, depths=(1, 2, 1)))
        before = network(samples)
        fold_batch_norm_(network)
        assert _norms(network) == 0
        assert torch.allclose(network(samples), before, rtol=1e-4, atol=1e-4)


def test_only_the_certain_pair_of_a_foreign_network_is_folded() -> None:
    network, samples = _with_statistics(Foreign()), torch.randint(0, 255, (4, 1, 6, 6), dtype=torch.uint8)
    before = network(samples)
    fold_batch_norm_(network)
    assert isinstance(network.norm, nn.Identity)
    assert isinstance(network.shared_norm, nn.BatchNorm2d)
    assert torch.allclose(network(samples), before, rtol=1e-4, atol=1e-3)


def test_untraceable_network_stays_as_it_is() -> None:
    network = _with_statistics(Winding())
    fold_batch_norm_(network)
    assert _norms(network) == 2


def test_statistics_of_the_batch_are_never_folded() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    fold_batch_norm_(network)
    assert _norms(network) == 1
