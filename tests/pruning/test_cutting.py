from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from image_batches import example
from nas_compress.errors import RequestError
from nas_compress.models.layers import StagedNetwork
from nas_compress.pruning.cutting import cut_network, most_important
from nas_compress.pruning.importance_criteria import rank_channels
from nas_compress.pruning.ranking import surviving_fractions

SHAPE = (1, 8, 8)
MakeNetwork = Callable[..., StagedNetwork]


@pytest.mark.parametrize("family", ["resnet", "mobilenet"])
def test_channels_that_do_nothing_are_cut_without_a_trace(family: str, make_network: MakeNetwork) -> None:
    network = make_network(family, (1, 2, 1))
    groups = rank_channels(network, example(SHAPE), criterion="bn_scale", seed=0)
    silenced: dict[tuple[str, ...], int] = {}
    with torch.no_grad():
        for number, group in enumerate(groups):
            silent = [1, 2, 5][: 1 + number % 3]
            silenced[group.layers] = len(silent)
            for layer in group.layers:
                norm = network.get_submodule(layer.removesuffix("conv") + "norm")
                norm.weight[silent] = 0
                norm.bias[silent] = 0
    samples = torch.randint(0, 17, (4, *SHAPE), dtype=torch.uint8)
    before = network(samples)
    cut = cut_network(
        network,
        example(SHAPE),
        most_important(
            rank_channels(network, example(SHAPE), criterion="bn_scale", seed=0),
            lambda group: len(group.importance) - silenced[group.layers],
        ),
    )
    torch.testing.assert_close(cut(samples), before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(samples), before)
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in network.parameters())
    for group in groups:
        found = {cut.get_submodule(layer).out_channels for layer in group.layers}
        assert found == {len(group.importance) - silenced[group.layers]}


@pytest.mark.parametrize("kept", [0, 9])
def test_a_layer_keeps_at_least_one_channel_and_at_most_its_own(kept: int, make_network: MakeNetwork) -> None:
    network = make_network("resnet")
    groups = rank_channels(network, example(SHAPE), criterion="uniform", seed=0)
    assert len(groups[0].importance) == 8 and np.all(np.diff(groups[0].importance) > 0)
    with pytest.raises(RequestError, match=rf"must keep 1 to 8 channels .* but stem.conv was to keep {kept}"):
        cut_network(network, example(SHAPE), most_important(groups, lambda group: kept))


def test_unknown_names_are_refused_by_the_functions_too(make_network: MakeNetwork) -> None:
    network = make_network("resnet")
    with pytest.raises(RequestError, match="a pruning criterion must be a known name, but got 'l3'"):
        rank_channels(network, example(SHAPE), criterion="l3", seed=0)
    groups = rank_channels(network, example(SHAPE), criterion="uniform", seed=0)
    with pytest.raises(RequestError, match="a pruning ranking must be a known name, but got 'locl'"):
        surviving_fractions(groups, 0.5, ranking="locl")


class TwoInputsTwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 8), nn.Linear(5, 8)
        self.inner, self.first, self.second = nn.Linear(8, 6), nn.Linear(6, 4), nn.Linear(6, 2)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = self.inner((self.left(left) + self.right(right).mean(1)).relu()).relu()
        return self.first(values), self.second(values)


def test_several_inputs_and_outputs_are_cut_without_the_outputs() -> None:
    inputs = {"left": torch.randn(2, 3), "right": torch.randn(2, 7, 5)}
    groups = rank_channels(TwoInputsTwoOutputs(), inputs, criterion="l1", seed=0)
    assert [group.layers for group in groups] == [("left", "right"), ("inner",)]
    cut = cut_network(TwoInputsTwoOutputs(), inputs, most_important(groups, lambda group: 4))
    assert [len(output[0]) for output in cut(*inputs.values())] == [4, 2]
    assert cut.left.out_features == cut.right.out_features == cut.first.in_features == 4
