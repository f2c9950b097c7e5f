"""Networks that do not run with kernels in the order of channels_last are trained in the contiguous order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.data.dataset import Split
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.quantization.parametrized import round_parameter_
from nas_compress.quantization.weight_quantizers import LargestWeight
from nas_compress.tasks.classification import Classification
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective
from nas_compress.training.runtime import memory_format_for
from nas_compress.values.candidate import cross_entropy

TASK = Classification.of_images(shape=(1, 6, 6), classes=4)


class Flat(nn.Module):
    """Features as rows, by `view` as in many tutorials or by `flatten`."""

    def __init__(self, *, by_view: bool) -> None:
        super().__init__()
        self.by_view = by_view
        self.conv, self.mixed, self.linear = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(64, 4)

    def forward(self, samples: Tensor) -> Tensor:
        hidden = torch.relu(self.mixed(self.conv(samples.float() / 64)))
        logits: Tensor = self.linear(hidden.view(-1, 64) if self.by_view else hidden.flatten(1))
        return logits


class Volumes(nn.Module):
    """A convolution over a volume beside one over an image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.volume, self.linear = nn.Conv2d(1, 4, 3), nn.Conv3d(1, 2, 3), nn.Linear(2, 4)

    def forward(self, samples: Tensor) -> Tensor:
        hidden = self.volume(self.conv(samples.float() / 64)[:, None])
        logits: Tensor = self.linear(hidden.mean(dim=(2, 3, 4)))
        return logits


def trained(model: nn.Module, epochs: int = 3) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    samples = torch.randint(0, 256, (16, 1, 6, 6), dtype=torch.uint8, generator=generator)
    data = Split(name="train", inputs={"input": samples}, targets={"label": torch.arange(16) % 4})
    objective = LossObjective(TrainingLoss(TASK, cross_entropy()))
    rates = {"learning_rate": 0.01, "weight_decay": 0.01}
    train(model, data, ShiftAndFlip(), objective=objective, epochs=epochs, batch_size=8, seed=0, **rates)
    return model


def made(*, by_view: bool) -> Flat:
    torch.manual_seed(0)
    return Flat(by_view=by_view)


def test_rows_by_view_are_trained_like_rows_by_flatten() -> None:
    pairs = zip(trained(made(by_view=True)).parameters(), trained(made(by_view=False)).parameters(), strict=True)
    for one, other in pairs:
        assert one.is_contiguous() and torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (made(by_view=False), torch.channels_last),
        (made(by_view=True), torch.contiguous_format),
        (Volumes(), torch.contiguous_format),
    ],
)
def test_the_faster_order_is_chosen_if_the_network_runs_with_it(model: nn.Module, expected: object) -> None:
    state = torch.random.get_rng_state()
    assert memory_format_for(model, {"input": torch.zeros(2, 1, 6, 6, dtype=torch.uint8)}) is expected
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_a_network_over_volumes_is_trained() -> None:
    trained(Volumes(), epochs=1)


class Heard(nn.Module):
    """An LSTM behind a convolution, with rounded weights of its states."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.cells, self.linear = nn.Conv2d(1, 4, 3), nn.LSTM(16, 8, batch_first=True), nn.Linear(8, 4)
        round_parameter_(self.cells, "weight_hh_l0", LargestWeight(4))

    def forward(self, samples: Tensor) -> Tensor:
        states, _ = self.cells(self.conv(samples.float() / 64).flatten(2))
        logits: Tensor = self.linear(states[:, -1])
        return logits


def test_rounded_recurrent_layers_are_tried_too() -> None:
    assert memory_format_for(Heard(), {"input": torch.zeros(2, 1, 6, 6, dtype=torch.uint8)}) == torch.channels_last
    assert all(bool(weights.isfinite().all()) for weights in trained(Heard(), epochs=1).parameters())
