"""Products in bfloat16: where a count chooses them, which layers keep float32, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from nas_compress.data.dataset import Dataset
from nas_compress.errors import RequestError
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.training import precision
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective
from nas_compress.training.precision import BFLOAT16_MACS, Products, products_of, require_precision
from nas_compress.training.validate import evaluate
from nas_compress.values.candidate import cross_entropy

CPU = torch.device("cpu")


class Small(nn.Module):
    """A convolution, a depthwise one and a linear layer; notes the types of their inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 10)
        self.seen: set[tuple[str, torch.dtype]] = set()

    def forward(self, samples: Tensor) -> Tensor:
        values = self._noted("conv", self.conv(samples.float() / 16))
        values = self._noted("depthwise", self.depthwise(self.norm(values).relu()))
        return self._noted("head", self.head(values.mean(dim=(2, 3))))

    def _noted(self, name: str, output: Tensor) -> Tensor:
        self.seen.add((name, output.dtype))
        return output


@pytest.fixture(params=[True, False])
def with_bfloat16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: request.param)
    yield request.param


def test_a_count_of_work_chooses_the_format_of_a_convolutional_network(with_bfloat16: bool) -> None:
    images, texts = Small(), nn.Linear(2, 2)
    best = "bfloat16" if with_bfloat16 else "float32"
    assert products_of("auto", images, CPU, batch_macs=BFLOAT16_MACS) == best
    assert products_of("auto", images, CPU, batch_macs=BFLOAT16_MACS - 1) == "float32"
    assert products_of("auto", texts, CPU, batch_macs=BFLOAT16_MACS) == "float32"
    assert products_of("float32", images, CPU, batch_macs=BFLOAT16_MACS) == "float32"
    assert products_of("bfloat16", texts, CPU, batch_macs=1) == "bfloat16"


def test_a_torch_without_onednn_has_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not precision.has_bfloat16(CPU)
    assert products_of("auto", Small(), CPU, batch_macs=BFLOAT16_MACS) == "float32"


def test_bfloat16_is_refused_in_one_line_where_the_processor_has_none(with_bfloat16: bool) -> None:
    require_precision("auto", CPU)
    require_precision("float32", CPU)
    if with_bfloat16:
        require_precision("bfloat16", CPU)
        return
    with pytest.raises(
        RequestError, match=r"needs .* \(study.toml: training.precision\); 'auto' .* in float32 here"
    ) as found:
        require_precision("bfloat16", CPU, "study.toml: training.precision")
    assert "\n" not in str(found.value)


def trained(
    data: Dataset, products: Products | None, *, epochs: int = 6
) -> tuple[Small, dict[str, float], set[tuple[str, torch.dtype]]]:
    torch.manual_seed(0)
    network = Small()
    judged: set[tuple[str, torch.dtype]] = set()

    def judge(done: int, terms: dict[str, float]) -> None:
        before, network.seen = network.seen, judged
        evaluate(network, data.validation.first(8), data.task)
        network.seen = before

    means = train(
        network,
        data.train,
        data.augmentation,
        objective=LossObjective(TrainingLoss(data.task, cross_entropy())),
        epochs=epochs,
        batch_size=36,
        learning_rate=3e-2,
        weight_decay=0.0,
        seed=0,
        products=products,
        on_epoch=judge,
    )
    return network, means, judged


def test_products_are_bfloat16_and_depthwise_ones_validation_and_weights_float32(few_digits: Dataset) -> None:
    """On a processor without bfloat16 torch computes the same by conversions."""
    network, means, judged = trained(few_digits, "bfloat16")
    assert network.seen == {("conv", torch.bfloat16), ("depthwise", torch.float32), ("head", torch.bfloat16)}
    assert {kind for _, kind in judged} == {torch.float32}
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32, torch.int64}
    assert "forward" not in vars(network.depthwise) and not torch.is_autocast_enabled("cpu")
    _, plain, _ = trained(few_digits, "float32")
    assert means["cross_entropy"] == pytest.approx(plain["cross_entropy"], abs=0.1)
    assert means["cross_entropy"] < 2.2


def test_a_cpu_trains_in_float32_unless_told_otherwise(few_digits: Dataset) -> None:
    network, _, _ = trained(few_digits, None, epochs=1)
    assert {kind for _, kind in network.seen} == {torch.float32}


def test_the_same_training_gives_the_same_bits(few_digits: Dataset) -> None:
    first, second = (trained(few_digits, "bfloat16", epochs=2)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
