"""Products in bfloat16: where a count chooses them, which layers keep float32, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_compress.data.dataset import Dataset
from nas_compress.errors import RequestError
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.transformer_layers import Attention
from nas_compress.training import precision
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective, observe
from nas_compress.training.precision import BFLOAT16_MACS, Products, products_of, require_precision
from nas_compress.training.validate import evaluate
from nas_compress.values.candidate import LossTerm, cross_entropy

CPU = torch.device("cpu")


class Noted(nn.Conv2d):
    """A convolution that notes the type of its products."""

    def __init__(self, channels: int, *, stride: int) -> None:
        super().__init__(channels, channels, 3, padding=1, stride=stride, groups=channels)
        self.seen: set[torch.dtype] = set()

    def _conv_forward(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        output = super()._conv_forward(values, weight, bias)
        self.seen.add(output.dtype)
        return output


class Small(nn.Module):
    """A convolution, two depthwise ones and a linear layer; notes the types of their outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise, self.strided = Noted(8, stride=1), Noted(8, stride=2)
        self.head = nn.Linear(8, 10)
        self.seen: set[tuple[str, torch.dtype]] = set()

    def forward(self, samples: Tensor) -> Tensor:
        values = self._noted("conv", self.conv(samples.float() / 16))
        values = self._noted("strided", self.strided(self.depthwise(self.norm(values).relu())))
        return self._noted("head", self.head(values.mean(dim=(2, 3))))

    def _noted(self, name: str, output: Tensor) -> Tensor:
        self.seen.add((name, output.dtype))
        return output


@pytest.fixture(params=[True, False])
def with_bfloat16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: request.param)
    yield request.param


def test_a_count_of_work_chooses_the_format(with_bfloat16: bool) -> None:
    best = "bfloat16" if with_bfloat16 else "float32"
    assert products_of("auto", CPU, batch_macs=BFLOAT16_MACS) == best
    assert products_of("auto", CPU, batch_macs=BFLOAT16_MACS - 1) == "float32"
    assert products_of("float32", CPU, batch_macs=BFLOAT16_MACS) == "float32"
    assert products_of("bfloat16", CPU, batch_macs=1) == "bfloat16"


def test_a_torch_without_onednn_has_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not precision.has_bfloat16(CPU)
    assert products_of("auto", CPU, batch_macs=BFLOAT16_MACS) == "float32"


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


def test_products_are_bfloat16_and_strided_depthwise_ones_and_weights_float32(few_digits: Dataset) -> None:
    """On a processor without bfloat16 torch computes the same by conversions."""
    network, means, judged = trained(few_digits, "bfloat16")
    assert network.seen == judged == {(name, torch.bfloat16) for name in ("conv", "strided", "head")}
    assert network.depthwise.seen == {torch.bfloat16} and network.strided.seen == {torch.float32}
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32, torch.int64}
    assert "forward" not in vars(network.strided) and not torch.is_autocast_enabled("cpu")
    _, plain, _ = trained(few_digits, "float32")
    assert means["cross_entropy"] == pytest.approx(plain["cross_entropy"], abs=0.1)
    assert means["cross_entropy"] < 2.2


def test_a_cpu_trains_in_float32_unless_told_otherwise(few_digits: Dataset) -> None:
    network, _, judged = trained(few_digits, None, epochs=1)
    assert {kind for _, kind in network.seen | judged} == {torch.float32}
    with precision.training_in("bfloat16", network):  # outside an autocast nothing changes
        assert network(few_digits.train.first(2).inputs["input"]).dtype == torch.float32


def test_the_same_training_gives_the_same_bits(few_digits: Dataset) -> None:
    first, second = (trained(few_digits, "bfloat16", epochs=2)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kernel, stride, padding, side", [(3, 2, 1, 7), (5, 2, 2, 8), ((3, 5), (2, 1), (1, 0), 9)])
def test_gradients_of_strided_depthwise_convolutions_are_those_of_float32(
    kernel: int, stride: int, padding: int, side: int
) -> None:
    """Rounded to the 8 bits of bfloat16, for the layers that have a backward pass of our own."""
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6, kernel, stride=stride, padding=padding, groups=6)
    values = torch.randn(4, 6, side, side).to(memory_format=torch.channels_last)
    found = []
    for products in ("float32", "bfloat16"):
        layer.zero_grad()
        given = values.clone().requires_grad_()
        with precision.training_in(products, layer), precision.mixed_precision(CPU):
            answer = layer(given)
        (answer.float() * torch.linspace(-1, 1, answer.numel()).reshape(answer.shape)).sum().backward()
        assert given.grad is not None and layer.weight.grad is not None and layer.bias is not None
        found.append((answer.detach().float(), given.grad, layer.weight.grad, layer.bias.grad))
        assert layer.weight.grad.dtype == torch.float32
    assert answer.dtype == torch.bfloat16
    for plain, half in zip(*found, strict=True):
        torch.testing.assert_close(half, plain, rtol=0.01, atol=0.02 * float(plain.abs().max()))


def test_a_copy_of_a_network_in_training_has_its_own_weights() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, groups=4), nn.Conv2d(4, 8, 3, stride=2, groups=4))
    with precision.training_in("bfloat16", network), precision.mixed_precision(CPU):
        copy = deepcopy(network)
        with torch.no_grad():
            for parameter in copy.parameters():
                parameter.zero_()
        assert not copy(torch.randn(2, 4, 9, 9)).any()
    assert not copy(torch.randn(2, 4, 9, 9)).any()


def test_a_strided_depthwise_convolution_takes_one_sample_without_a_batch() -> None:
    layer, sample = nn.Conv2d(4, 4, 3, stride=2, groups=4), torch.randn(4, 7, 7, requires_grad=True)
    with precision.training_in("bfloat16", layer), precision.mixed_precision(CPU):
        answer = layer(sample)
    answer.sum().backward()
    assert answer.dtype == torch.bfloat16 and sample.grad is not None
    torch.testing.assert_close(answer.float(), layer(sample), rtol=0.02, atol=0.02)


def test_attention_stays_float32_in_networks_of_families_and_of_torch() -> None:
    seen: list[torch.dtype] = []
    plain = functional.scaled_dot_product_attention

    def noted(query: Tensor, *others: Any, **options: Any) -> Tensor:
        seen.append(query.dtype)
        return plain(query, *others, **options)

    own, theirs = Attention(8, 8, heads=2, tokens=3), nn.MultiheadAttention(8, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "scaled_dot_product_attention", noted)
        with precision.training_in("bfloat16", nn.ModuleList([own, theirs])), precision.mixed_precision(CPU):
            mixed, relations = own(torch.randn(6, 8))
            attended, _ = theirs(*[torch.randn(3, 2, 8)] * 3, attn_mask=torch.zeros(3, 3), need_weights=False)
            with precision.training_in("bfloat16", theirs):
                pass
            one = torch.randn(1, 1, 3, 8)
            joined = functional.scaled_dot_product_attention(one, one, one)  # after a training within
    assert seen == [torch.float32] * 3 and joined.dtype == torch.bfloat16, "as torch's own under autocast"
    assert functional.scaled_dot_product_attention is plain
    assert {mixed.dtype, attended.dtype, relations[0].dtype} == {torch.bfloat16}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert functional.scaled_dot_product_attention(*[torch.randn(1, 1, 3, 8)] * 3).dtype == torch.bfloat16


def test_a_teacher_shows_the_same_features_to_students_of_both_formats(few_digits: Dataset) -> None:
    """Features that are stored once for all students come from a pass in float32."""
    seen: list[torch.dtype] = []

    class Watched(Small):
        def _noted(self, name: str, output: Tensor) -> Tensor:
            seen.append(output.dtype)
            return super()._noted(name, output)

    batch, targets = few_digits.train.first(4).inputs, few_digits.train.first(4).targets
    teacher, student = Watched().eval(), Small()
    shapes = [observe(network, batch, few_digits.task, watched=("conv",)) for network in (student, teacher)]
    loss = TrainingLoss(
        few_digits.task, (*cross_entropy(), LossTerm(name="fitnet", weight=1.0)), student=shapes[0], teacher=shapes[1]
    )
    objective = LossObjective(loss, teacher=teacher, watched=("conv",))
    seen.clear()
    with precision.training_in("bfloat16", student):
        objective(student, batch, targets, view=0, index=torch.arange(4), progress=0.0)
    assert set(seen) == {torch.float32}
    assert ("conv", torch.bfloat16) in student.seen
