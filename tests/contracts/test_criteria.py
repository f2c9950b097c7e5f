"""What every pruning criterion promises, and what each one sees."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from image_batches import example, labelled
from image_files import export_images
from nas_compress.errors import RequestError
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.models.features import ObservableNetwork
from nas_compress.models.layers import StagedFamily
from nas_compress.pruning.channel_groups import ChannelGroup
from nas_compress.pruning.importance_criteria import CRITERIA, rank_channels
from nas_compress.pruning.ranking import RANKINGS, surviving_fractions
from nas_compress.pruning.widths import student_fractions, student_widths
from nas_compress.values.architecture import Architecture

MakeNetwork = Callable[..., ObservableNetwork]

SHAPE = (1, 8, 8)
DEPTHS = (1, 2, 1)
every_criterion = pytest.mark.parametrize("criterion", CRITERIA)
STAGED = [name for name, family in FAMILIES.items() if isinstance(family, StagedFamily)]
every_family = pytest.mark.parametrize("family", STAGED)  # of one shape: three stages


BATCHES = tuple(
    (torch.randint(0, 17, (8, *SHAPE), generator=chance), torch.randint(0, 10, (8,), generator=chance))
    for chance in (torch.Generator().manual_seed(seed) for seed in range(2))
)


def votes(network: nn.Module, criterion: str, seed: int = 0) -> tuple[ChannelGroup, ...]:
    return rank_channels(network, example(SHAPE), criterion=criterion, seed=seed, samples=labelled(BATCHES))


def scores(groups: tuple[ChannelGroup, ...]) -> np.ndarray:
    return np.concatenate([group.importance for group in groups])


class Plain(nn.Module):
    """Two convolutions of six channels, all weights 1, with or without normalisation."""

    def __init__(self, *, normalised: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.first_norm = nn.BatchNorm2d(6) if normalised else nn.Identity()
        self.second_norm = nn.BatchNorm2d(6) if normalised else nn.Identity()
        self.classifier = nn.Linear(6, 10)
        for module in (self.first, self.second, self.classifier):
            nn.init.ones_(module.weight)

    def forward(self, samples: Tensor) -> Tensor:
        values = torch.relu(self.first_norm(self.first(samples.float())))
        return self.classifier(torch.relu(self.second_norm(self.second(values))).mean((2, 3)))


@every_criterion
@every_family
def test_as_many_channels_go_as_were_asked(family: str, criterion: str, make_network: MakeNetwork) -> None:
    groups = votes(make_network(family, DEPTHS), criterion)
    sizes = np.array([len(group.importance) for group in groups])
    kinds = np.array([group.kind for group in groups])
    pools = {"global": np.zeros(len(groups)), "local": np.arange(len(groups)), "isomorphic": kinds}
    assert set(pools) == set(RANKINGS) and 1 < len(set(kinds)) < len(groups)
    for ranking, ratio in itertools.product(RANKINGS, [0.0, 0.1, 0.33, 0.5, 0.8]):
        kept = sizes * np.array(surviving_fractions(groups, ratio, ranking=ranking))
        assert np.allclose(kept, kept.round()) and kept.min() > 0.999
        for pool in set(pools[ranking]):
            inside = pools[ranking] == pool
            assert abs((sizes - kept)[inside].sum() - ratio * sizes[inside].sum()) <= 0.5 + 1e-9, (ranking, ratio)


@every_criterion
def test_each_layer_keeps_its_least_number(criterion: str, make_network: MakeNetwork) -> None:
    groups = votes(make_network("resnet", DEPTHS), criterion)
    sizes = np.array([len(group.importance) for group in groups])
    for ranking in RANKINGS:
        kept = sizes * np.array(surviving_fractions(groups, 0.6, ranking=ranking, min_channels=3))
        assert kept.min() > 2.999


def test_a_cut_that_would_empty_a_layer_is_refused(make_network: MakeNetwork) -> None:
    groups = votes(make_network("resnet"), "uniform")
    with pytest.raises(RequestError, match=r"each layer must keep 1 channel\(s\), but pruning_ratio=0.99 .* stem.conv"):
        surviving_fractions(groups, 0.99)
    with pytest.raises(RequestError, match=r"each layer must keep 8 channel\(s\), but pruning_ratio=0.9 "):
        surviving_fractions(groups, 0.9, min_channels=8)
    assert min(surviving_fractions(groups, 0.99, ranking="local")) == 1 / 32
    with pytest.raises(RequestError, match="a pruning ranking must be a known name, but got 'globl'; did you mean"):
        surviving_fractions(groups, 0.5, ranking="globl")


@every_criterion
@every_family
def test_half_of_the_channels_make_a_smaller_student(
    family: str, criterion: str, make_network: MakeNetwork, tmp_path: Path
) -> None:
    whole = make_network(family, DEPTHS)
    groups, known = votes(whole, criterion), FAMILIES[family]
    layers = [(layer, max(8, base // 4 // 8 * 8)) for layer, base in known.layers(DEPTHS, known.base_widths)]
    sizes = []
    for ratio in (0.0, 0.5):
        fractions = surviving_fractions(groups, ratio)
        survivors = student_fractions(layers, groups=groups, fractions=fractions, same_family=True)
        widths = student_widths(layers, list(survivors.values()), width_multiplier=1.0, step=1)
        student = build_student(
            Architecture.of_images(SHAPE, classes=10, mean=5, std=6.0, family=family, depths=DEPTHS, widths=widths)
        )
        for group, fraction in zip(groups, fractions, strict=True):
            found = {student.get_submodule(layer).out_channels for layer in group.layers}
            assert found == {round(fraction * len(group.importance))}, group.layers
        F.cross_entropy(student.train()(BATCHES[0][0]), BATCHES[0][1]).backward()
        assert all(value.grad is not None for value in student.parameters())
        export_images(student.eval(), SHAPE, tmp_path / f"{ratio}.onnx")
        sizes.append((tmp_path / f"{ratio}.onnx").stat().st_size)
    assert sizes[1] < 0.8 * sizes[0]


@every_criterion
@every_family
def test_what_goes_together_has_as_many_channels(family: str, criterion: str, make_network: MakeNetwork) -> None:
    network = make_network(family, DEPTHS)
    groups = votes(network, criterion)
    grouped = [layer for group in groups for layer in group.layers]
    assert len(grouped) == len(set(grouped))
    assert {name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)} == set(grouped)
    for group in groups:
        found = {network.get_submodule(layer).out_channels for layer in group.layers}
        assert found == {len(group.importance)}, group.layers
        assert np.isfinite(group.importance).all()


@every_family
def test_every_free_width_has_a_group_of_its_own(family: str, make_network: MakeNetwork) -> None:
    groups = votes(make_network(family, DEPTHS), "uniform")
    free = {layer for layer, _ in FAMILIES[family].layers(DEPTHS, FAMILIES[family].base_widths)}
    assert [len(free & set(group.layers)) for group in groups] == [1] * len(free)
    positions = [group.position for group in groups]
    assert positions == sorted(positions) and positions[0] == 0 and positions[-1] == 1


@every_criterion
def test_only_chance_depends_on_the_seed(criterion: str, make_network: MakeNetwork) -> None:
    network = make_network("resnet")
    first, again, other = (scores(votes(network, criterion, seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (criterion != "random")


@every_criterion
@every_family
def test_the_teacher_stays_as_it_is(family: str, criterion: str, make_network: MakeNetwork) -> None:
    network = make_network(family)
    network.stem.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    asked = [value.requires_grad for value in network.parameters()]
    votes(network, criterion)
    after = network.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in before)
    assert [value.requires_grad for value in network.parameters()] == asked
    assert not any(module.training for module in network.modules())
    assert all(value.grad is None for value in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    votes(network.train(), criterion)
    assert all(module.training for module in network.modules())


@every_criterion
def test_a_frozen_teacher_votes_like_any_other(criterion: str, make_network: MakeNetwork) -> None:
    network = make_network("resnet")
    free, frozen = votes(network, criterion), votes(copy.deepcopy(network).requires_grad_(False), criterion)
    with torch.no_grad():
        without = votes(network, criterion)
    assert [group.layers for group in free] == [group.layers for group in frozen] == [group.layers for group in without]
    assert np.array_equal(scores(free), scores(frozen)) and np.array_equal(scores(free), scores(without))


def test_uniform_takes_the_same_part_of_every_layer(make_network: MakeNetwork) -> None:
    groups = votes(make_network("mobilenet", DEPTHS), "uniform")
    for group, fraction in zip(groups, surviving_fractions(groups, 0.4), strict=True):
        assert abs(fraction - 0.6) <= 1 / len(group.importance)


def test_l1_removes_the_filters_near_zero() -> None:
    network = Plain()
    with torch.no_grad():
        network.first.weight[[0, 3]] = 1e-4
    assert surviving_fractions(votes(network, "l1"), 2 / 12) == pytest.approx((4 / 6, 1))
    assert set(np.argsort(votes(network, "l1")[0].importance)[:2]) == {0, 3}


def test_bn_scale_removes_the_scales_near_zero_of_either_sign() -> None:
    network = Plain()
    with torch.no_grad():
        network.second_norm.weight[:] = torch.tensor([1.0, -0.01, 0.01, -1.0, 0.02, -0.02])
    assert surviving_fractions(votes(network, "bn_scale"), 4 / 12) == pytest.approx((1, 2 / 6))


def test_bn_scales_compare_across_layers() -> None:
    network = Plain()
    with torch.no_grad():
        network.first_norm.weight.fill_(0.01)
    assert surviving_fractions(votes(network, "bn_scale"), 0.5) == pytest.approx((1 / 6, 5 / 6))


def test_a_layer_of_zeros_goes_first() -> None:
    network = Plain(normalised=False)
    with torch.no_grad():
        network.second.weight.zero_()
        network.classifier.weight.zero_()
    assert surviving_fractions(votes(network, "l1"), 0.5) == pytest.approx((5 / 6, 1 / 6))


def test_bn_scale_without_normalisation_is_refused() -> None:
    with pytest.raises(RequestError, match="'bn_scale' needs batch normalisation, but the group of layer first has"):
        votes(Plain(normalised=False), "bn_scale")
    assert votes(Plain(normalised=False), "l1")


def test_l2_squares_what_l1_adds() -> None:
    network = Plain(normalised=False)
    with torch.no_grad():
        network.first.weight.fill_(0.1)
        network.first.weight[0] = 0
        network.first.weight[0, 0, 0, 0] = 0.8  # less in sum, more in squares than nine times 0.1
        network.second.weight.zero_()
    assert np.argmin(votes(network, "l1")[0].importance) == 0
    assert np.argmax(votes(network, "l2")[0].importance) == 0


def test_fpgm_removes_what_others_can_stand_for() -> None:
    network = Plain()
    with torch.no_grad():
        network.first.weight.copy_(torch.tensor([0.0, 3.0, 4.0, -4.0, 5.0, 12.0]).view(6, 1, 1, 1).expand(6, 1, 3, 3))
    # distances to the others, by hand: 3+4+4+5+12, 3+1+7+2+9, 4+1+8+1+8, 4+7+8+9+16, 5+2+1+9+7, 12+9+8+16+7
    sums = np.array([28, 22, 22, 44, 24, 52])
    assert votes(network, "fpgm")[0].importance == pytest.approx(sums / sums.mean(), rel=1e-5)


def test_lamp_weighs_a_channel_against_those_that_outlive_it() -> None:
    network = Plain(normalised=False)
    with torch.no_grad():
        network.first.weight.copy_(torch.arange(1.0, 7.0).sqrt().view(6, 1, 1, 1).expand(6, 1, 3, 3) / 3)
        network.second.weight.zero_()
    # squares 1 to 6, each over the sum of itself and all that are larger
    by_hand = [1 / 21, 2 / 20, 3 / 18, 4 / 15, 5 / 11, 1.0]
    assert votes(network, "lamp")[0].importance == pytest.approx(by_hand, rel=1e-5)


class Gated(nn.Module):
    """Its logits are the means of four channels, each of which is one number times the sample."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.conv, self.classifier = nn.Conv2d(1, 4, 1, bias=False), nn.Linear(4, 4, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor(weights).view(4, 1, 1, 1))
            self.classifier.weight.copy_(torch.eye(4))

    def forward(self, samples: Tensor) -> Tensor:
        return self.classifier(self.conv(samples.float()).mean((2, 3)))


def test_taylor_is_the_squared_change_of_the_loss_mean_over_batches() -> None:
    weights, seen = [0.5, -1.0, 0.0, 2.0], ((1, 0), (2, 3))
    batches = [(torch.full((1, 1, 2, 2), value, dtype=torch.uint8), torch.tensor([label])) for value, label in seen]
    samples = labelled(batches, classes=4)
    (group,) = rank_channels(Gated(weights), example((1, 2, 2)), criterion="taylor", seed=0, samples=samples)
    by_hand = np.zeros(4)
    for value, label in seen:
        logits = value * np.array(weights)
        answers = np.exp(logits) / np.exp(logits).sum()
        # gate times its gradient: logit x (answer - label); both the layer and its reader see the same
        by_hand += (logits * (answers - np.eye(4)[label])) ** 2 / 2
    assert group.importance == pytest.approx(by_hand, rel=1e-5)
    with pytest.raises(RequestError, match="'taylor' needs training samples for its gradients, but got none"):
        rank_channels(Gated(weights), example((1, 2, 2)), criterion="taylor", seed=0)


def test_an_unknown_criterion_is_refused() -> None:
    with pytest.raises(RequestError, match=r"a pruning criterion must .* got 'l3'; did you mean 'l2'\?"):
        votes(Plain(), "l3")
    with pytest.raises(RequestError, match="0 <= pruning_ratio < 1 must hold, but got pruning_ratio=1"):
        surviving_fractions(votes(Plain(), "uniform"), 1.0)


class Opaque(Plain):
    """Leaves torch on the way, so that no gradient leads back."""

    def forward(self, samples: Tensor) -> Tensor:
        values = self.first(samples.float()).detach().numpy()
        return self.classifier(torch.from_numpy(values).mean((2, 3)))


class Choosy(Plain):
    def forward(self, samples: Tensor) -> Tensor:
        if len(samples) < 2:
            raise ValueError("two samples\nare needed")
        return super().forward(samples)


@pytest.mark.parametrize(
    ("network", "reason"), [(Opaque(), "found no channels"), (Choosy(), "ValueError: two samples are needed")]
)
def test_a_teacher_that_cannot_be_traced_is_refused(network: nn.Module, reason: str) -> None:
    with pytest.raises(RequestError, match=f"the teacher must be traceable to rank its channels, .*{reason}") as caught:
        votes(network, "uniform")
    assert "\n" not in str(caught.value)


class Convolutional(nn.Module):
    """Its classifier is a convolution, and it names its layers from the last to the first."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier, self.second, self.first = nn.Conv2d(6, 10, 1), nn.Conv2d(4, 6, 3), nn.Conv2d(1, 4, 3)

    def forward(self, samples: Tensor) -> Tensor:
        return self.classifier(self.second(self.first(samples.float()).relu()).relu()).mean((2, 3))


@every_criterion
def test_the_layer_that_runs_last_stays_whole(criterion: str) -> None:
    if criterion == "bn_scale":
        return
    groups = votes(Convolutional(), criterion)
    assert [(group.layers, group.position, len(group.importance)) for group in groups] == [
        (("first",), 0.0, 4),
        (("second",), 1.0, 6),
    ]
