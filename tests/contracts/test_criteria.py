"""What every pruning criterion promises, and what each one sees."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.models.families import FAMILIES
from nas_compress.observation import ObservableNetwork
from nas_compress.pruning.groups import CRITERIA, ChannelGroup, rank_channels, surviving_fractions

MakeNetwork = Callable[..., ObservableNetwork]

SHAPE = (1, 8, 8)
DEPTHS = (1, 2, 1)
every_criterion = pytest.mark.parametrize("criterion", CRITERIA)
every_family = pytest.mark.parametrize("family", ["resnet", "mobilenet"])  # of one shape: three stages


def votes(network: nn.Module, criterion: str, seed: int = 0) -> tuple[ChannelGroup, ...]:
    return rank_channels(network, SHAPE, criterion=criterion, seed=seed)


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
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.33, 0.5, 0.75, 0.99])
def test_as_many_channels_go_as_were_asked(
    family: str, criterion: str, ratio: float, make_network: MakeNetwork
) -> None:
    groups = votes(make_network(family, DEPTHS), criterion)
    sizes = np.array([len(group.importance) for group in groups])
    removed = sizes * (1 - np.array(surviving_fractions(groups, ratio)))
    assert np.allclose(removed, removed.round())
    assert abs(removed.sum() - ratio * sizes.sum()) <= 0.5 + 1e-9


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
    assert surviving_fractions(votes(network, "bn_scale"), 0.5) == pytest.approx((0, 1))


def test_a_layer_of_zeros_goes_first() -> None:
    network = Plain(normalised=False)
    with torch.no_grad():
        network.second.weight.zero_()
        network.classifier.weight.zero_()
    assert surviving_fractions(votes(network, "l1"), 0.5) == pytest.approx((1, 0))


def test_bn_scale_without_normalisation_is_refused() -> None:
    with pytest.raises(RequestError, match="'bn_scale' needs batch normalisation, but the group of layer first has"):
        votes(Plain(normalised=False), "bn_scale")
    assert votes(Plain(normalised=False), "l1")


def test_an_unknown_criterion_is_refused() -> None:
    with pytest.raises(RequestError, match=r"a pruning criterion must .* got 'l2'; did you mean 'l1'\?"):
        votes(Plain(), "l2")
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
    with pytest.raises(RequestError, match=f"the teacher must be traceable for its vote, .*{reason}") as caught:
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
