from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from image_files import image_macs
from nas_compress.errors import RequestError
from nas_compress.models.layers import ConvUnit, Head, RawInput
from nas_compress.models.macs import count_parameters


def _tiny() -> nn.Module:
    return nn.Sequential(
        RawInput(5, 6.0),
        ConvUnit(1, 4),
        ConvUnit(4, 4, stride=2, groups=4),
        ConvUnit(4, 6, kernel=1),
        Head(6, 3),
    )


def test_macs_of_a_hand_worked_network() -> None:
    dense, depthwise, pointwise = 4 * 1 * 9 * 64, 4 * 9 * 16, 6 * 4 * 16
    classifier, its_bias = 6 * 3, 3
    assert image_macs(_tiny(), (1, 8, 8)) == dense + depthwise + pointwise + classifier + its_bias


def test_parameters_of_a_hand_worked_network() -> None:
    weights, norms, classifier = 4 * 9 + 4 * 9 + 6 * 4, 2 * (4 + 4 + 6), 6 * 3 + 3
    network = _tiny()
    assert count_parameters(network) == weights + norms + classifier
    network[1].requires_grad_(False)
    assert count_parameters(network) == weights + norms + classifier - 4 * 9 - 2 * 4


def test_counting_leaves_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    network = _tiny().train()
    before = deepcopy(network.state_dict())
    image_macs(network, (1, 8, 8))
    assert network.training and not network[1]._forward_hooks
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_attention_is_counted() -> None:
    class Attention(nn.Module):
        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            rows = samples.float()
            return nn.functional.scaled_dot_product_attention(rows, rows, rows)

    assert image_macs(Attention(), (1, 8, 4)) == pytest.approx(2 * 8 * 8 * 4, rel=0.05)


def test_network_that_cannot_take_the_sample_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RequestError, match=r"shape input \(1, 3, 8, 8\), but got") as caught:
        image_macs(_tiny(), (3, 8, 8))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
