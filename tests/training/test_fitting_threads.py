from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from nas_compress.training.runtime import THREADED_MACS, fitting_threads


class Conv(nn.Module):
    """One convolution, 9 multiply-adds for each pixel and output channel; notes the threads of each call."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, samples: Tensor) -> Tensor:
        values: Tensor = self.norm(self.conv(samples.float()))
        return values


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


SAMPLE = {"input": torch.ones((1, 1, 10, 10), dtype=torch.uint8)}
BATCH = THREADED_MACS // (9 * 100 * 4)


@pytest.mark.parametrize(("batch_size", "threads"), [(BATCH, 1), (BATCH + 1, 2)])
def test_only_work_from_the_limit_on_is_shared_among_threads(batch_size: int, threads: int) -> None:
    with fitting_threads(Conv(4), SAMPLE, batch_size=batch_size):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2


def test_threads_come_back_after_an_error() -> None:
    with pytest.raises(KeyError), fitting_threads(Conv(4), SAMPLE, batch_size=1):
        raise KeyError
    assert torch.get_num_threads() == 2


def test_counting_leaves_the_network_as_it_is() -> None:
    model = Conv(4).train()
    model.norm.eval()
    with fitting_threads(model, SAMPLE, batch_size=1):
        assert model.training and model.conv.training and not model.norm.training
    assert model.norm.running_mean is not None and not model.norm.running_mean.any()
