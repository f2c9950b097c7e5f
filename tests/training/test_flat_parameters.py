from __future__ import annotations

import pytest
import torch
from torch import nn

from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.data.dataset import Split
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.tasks.classification import Classification
from nas_compress.training.flat_parameters import flattened
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective
from nas_compress.training.schedule import learning_rate_at
from nas_compress.values.candidate import LossTerm, cross_entropy

TASK = Classification.of_images(shape=(2, 6, 6), classes=4)


class Small(nn.Module):
    """A convolution, a normalisation and a linear layer on raw samples."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Linear(3, 4)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self.linear(self.norm(self.conv(samples.float() / 64)).mean(dim=(2, 3)))
        return values


def small(memory_format: torch.memory_format = torch.channels_last) -> Small:
    torch.manual_seed(0)
    return Small().to(memory_format=memory_format)  # type: ignore[call-overload,no-any-return]


def samples() -> torch.Tensor:
    return torch.randint(0, 256, (16, 2, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_values_stay_and_one_tensor_holds_them_all(memory_format: torch.memory_format) -> None:
    model, reference = small(memory_format), small(memory_format)
    with flattened(list(model.parameters())) as flat:
        for parameter, before in zip(model.parameters(), reference.parameters(), strict=True):
            assert torch.equal(parameter, before)
        assert flat.shape == (sum(parameter.numel() for parameter in reference.parameters()),)
        flat.data.mul_(2)
        assert torch.equal(model.conv.weight, 2 * reference.conv.weight)


def test_the_one_gradient_is_that_of_all_parameters() -> None:
    model, reference = small(), small()
    reference(samples()).square().mean().backward()
    with flattened(list(model.parameters())) as flat:
        for times in (1, 2):
            model(samples()).square().mean().backward()
            assert flat.grad is not None
            total = sum(float(p.grad.square().sum()) for p in reference.parameters() if p.grad is not None)
            assert float(flat.grad.square().sum()) == pytest.approx(times**2 * total, rel=1e-4)
            assert model.conv.weight.grad is not None and reference.conv.weight.grad is not None
            assert torch.allclose(model.conv.weight.grad, times * reference.conv.weight.grad, rtol=1e-4, atol=1e-7)


def test_afterwards_each_parameter_has_memory_of_its_own_also_after_an_error() -> None:
    model = small()
    with pytest.raises(KeyError), flattened(list(model.parameters())) as flat:
        flat.data.fill_(3.0)
        raise KeyError
    flat.data.fill_(7.0)
    for parameter in model.parameters():
        assert torch.equal(parameter, torch.full_like(parameter, 3.0))
        assert parameter.grad is None
        assert parameter.untyped_storage().nbytes() == 4 * parameter.numel()


def test_the_loop_trains_like_one_adamw_over_all_tensors() -> None:
    """The same steps by torch's optimiser on each tensor, unfused and with gradients set to None."""
    inputs, labels = samples(), torch.arange(16) % 4
    model, reference = small(), small()
    train(
        model,
        Split(name="train", inputs={"input": inputs}, targets={"label": labels}),
        ShiftAndFlip(),
        objective=LossObjective(TrainingLoss(TASK, cross_entropy())),
        epochs=5,
        batch_size=16,
        learning_rate=0.01,
        weight_decay=0.5,
        seed=0,
    )
    decayed = [p for p in reference.parameters() if p.ndim > 1]
    free = [p for p in reference.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.5}, {"params": free, "weight_decay": 0.0}])
    for step in range(5):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, steps=5, peak=0.01)
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(reference(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert not torch.allclose(small().linear.weight, reference.linear.weight, atol=1e-3)
    for got, expected in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(got, expected, atol=2e-4)


def test_the_same_seed_gives_the_same_bits() -> None:
    data = Split(name="train", inputs={"input": samples()}, targets={"label": torch.arange(16) % 4})
    terms = [LossTerm(name="cross_entropy", weight=0.3), LossTerm(name="label_smoothing")]

    def trained() -> Small:
        model = small()
        train(
            model,
            data,
            ShiftAndFlip(shift=1),
            objective=LossObjective(TrainingLoss(TASK, terms)),
            epochs=3,
            batch_size=4,
            learning_rate=0.01,
            weight_decay=0.01,
            seed=5,
        )
        return model

    first, second = trained(), trained()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
