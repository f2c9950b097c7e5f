"""Networks with gates, shuffles and slices: each layer is cut right, or stays whole and is named."""

from __future__ import annotations

import case_networks
import pytest
import torch
from case_networks import Base
from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.pruning.channel_groups import TracedGroup, cuts_inputs, trace_groups
from nas_compress.pruning.cutting import cut_network, most_important
from nas_compress.pruning.importance_criteria import rank_channels
from nas_compress.pruning.pruned_family import build_pruned, pruned_widths
from nas_compress.pruning.ranking import surviving_fractions
from nas_compress.pruning.unpruned_layers import in_one_line, layers_left_whole
from nas_compress.values.architecture import Architecture

SHAPE = (3, 16, 16)
EXAMPLE = {"input": torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))}

WHOLE: dict[str, set[str]] = {
    "SpatialGate": set(),
    "MaskConv": set(),
    "DepthMul": {"a.0", "d.0"},
    "StemDepth1": {"d.0"},
    "TwoGroups": set(),
    "Dense": set(),
    "HardView": {"b.0"},
    "PixShuf": {"a.0"},
    "CatSame": set(),
    "LNfirst": set(),
    "ECA": {"a.0"},
    "WN": {"a"},
    "NormedHead": set(),
    "PosMap": set(),
    "Buf": {"a.0"},
    "GLU": {"a"},
    "MHA": set(),
    "WS": {"a"},
}
"""First layers of the groups that stay whole, by network."""

PLAIN: dict[str, set[str]] = {
    "OneOut": set(),
    "ResNeXt": set(),
    "PRe": set(),
    "SpaceToDepth": {"a.0"},
    "MeanMax": set(),
    "ConvT": set(),
    "GN": set(),
    "SharedConv": set(),
    "SE1": set(),
    "TwoHeads": set(),
    "ConvHead": set(),
    "BNafterCatBN1d": set(),
    "MaxOut": {"a.0"},
    "Reflect": set(),
}

MEANS = {"SpatialGate", "LNfirst", "GN", "MHA"}
"""Networks with means over channels, which depend on the number of channels."""


def made(name: str) -> Base:
    torch.manual_seed(0)
    network: Base = getattr(case_networks, name)()
    with torch.no_grad():  # no scale is 1 and no statistic 0
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d):
                for values in (norm.weight, norm.bias, norm.running_mean):
                    assert values is not None
                    values.add_(0.3 * torch.randn_like(values))
    return network.eval()


def masked(network: nn.Module, removed: dict[tuple[str, ...], set[int]]) -> Tensor:
    """The whole network's outputs with 0 in the removed channels of every layer that has them."""
    copy, traced = trace_groups(network, EXAMPLE)

    def silence(channels: list[int], dim: int, output: Tensor) -> Tensor:
        return output.index_fill(1 if output.ndim == 4 else dim, torch.tensor(channels), 0)

    for group in traced:
        for item in group.group:
            module = item.dep.target.module
            gone = [
                index
                for index, root in zip(item.idxs, item.root_idxs, strict=True)
                if root in removed.get(group.layers, ())
            ]
            if isinstance(module, nn.Parameter) and gone:
                with torch.no_grad():
                    module.index_fill_(item.dep.target.pruning_dim, torch.tensor(gone), 0)
            elif gone and not cuts_inputs(item.dep) and any(module is own for own in copy.modules()):
                module.register_forward_hook(lambda _, __, output, gone=gone: silence(gone, -1, output))
    with torch.no_grad():
        return copy(*EXAMPLE.values())


@pytest.mark.parametrize(
    "name", [*WHOLE, *(pytest.param(name, marks=pytest.mark.slow) for name in PLAIN)], ids=lambda name: name
)
def test_a_layer_is_cut_right_or_stays_whole_and_is_named(name: str) -> None:
    network = made(name)
    whole = layers_left_whole(network, EXAMPLE)
    assert {group.layers[0] for group in whole} == (WHOLE | PLAIN)[name]
    assert all("\n" not in str(group) and group.reason for group in whole)
    kept_whole = {layer for group in whole for layer in group.layers}
    cut_groups: dict[tuple[str, ...], set[int]] = {}

    def keep(group: TracedGroup) -> list[int] | None:
        if kept_whole & set(group.layers):
            return None
        kept = list(range(0, len(group.units), 2))
        cut_groups[group.layers] = {
            index for number, unit in enumerate(group.units) if number not in kept for index in unit
        }
        return kept

    cut = cut_network(network, EXAMPLE, keep)
    assert cut_groups and sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in network.parameters())
    with torch.no_grad():
        found = cut(*EXAMPLE.values())
    if name not in MEANS:
        torch.testing.assert_close(found, masked(network, cut_groups), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["DepthMul", "MaskConv", "GLU", "PixShuf", "ECA"])
@pytest.mark.parametrize("criterion", ["l1", "lamp", "fpgm"])
def test_every_criterion_ranks_what_can_be_cut(name: str, criterion: str) -> None:
    network = made(name)
    whole = {layer for group in layers_left_whole(network, EXAMPLE) for layer in group.layers}
    groups = rank_channels(network, EXAMPLE, criterion=criterion, seed=0, whole=whole)
    assert groups and all(bool((group.importance >= 0).all()) for group in groups)
    cut_network(network, EXAMPLE, most_important(groups, lambda group: group.channels // 2))


def test_a_gate_of_one_channel_leaves_its_trunk_free() -> None:
    network = made("SpatialGate")
    groups = rank_channels(network, EXAMPLE, criterion="l1", seed=0)
    assert [(group.layers, group.channels) for group in groups] == [(("a.0",), 32), (("b.0",), 64)]
    fractions = surviving_fractions(groups, 0.5, ranking="local")
    widths = pruned_widths(groups, fractions, width_multiplier=1.0, step=16)
    assert [(width.layer, width.channels) for width in widths] == [("a.0", 16), ("b.0", 32)]
    shape = Architecture.of_images(SHAPE, classes=10, mean=0, std=1.0, family="pruned", depths=(), widths=widths)
    student = build_pruned(case_networks.SpatialGate, shape, EXAMPLE)
    counted = 16 * 3 * 9 + 32 + 2 * 49 + 1 + 32 * 16 * 9 + 64 + 330
    assert sum(values.numel() for values in student.parameters()) == counted == 5565


@pytest.mark.parametrize(
    ("pattern", "kept"), [("b.0", {"b.0"}), ("b", {"b.0"}), ("[ab].*", {"a.0", "b.0"}), ("f?", set())]
)
def test_patterns_keep_layers_whole(pattern: str, kept: set[str]) -> None:
    whole = layers_left_whole(made("MeanMax"), EXAMPLE, keep=[pattern])
    assert {group.layers[0]: group.reason for group in whole} == dict.fromkeys(kept, "pruning.keep")


def test_a_pattern_without_a_module_is_refused() -> None:
    with pytest.raises(RequestError) as caught:
        layers_left_whole(made("MeanMax"), EXAMPLE, keep=["head.*"], where="study.toml: pruning.keep")
    assert str(caught.value) == (
        "a pattern must match a module of the network, but got 'head.*' (study.toml: pruning.keep)"
        "; modules are a, a.0, a.1, a.2, b, ..."
    )
    with pytest.raises(RequestError, match="got 'gat'; did you mean 'gate'"):
        layers_left_whole(made("SpatialGate"), EXAMPLE, keep=["gat"])


def test_a_network_without_removable_channels_is_refused_by_name() -> None:
    network = made("MeanMax")
    with pytest.raises(RequestError, match=r"channels can be removed, but all stay whole: a\.0, b\.0"):
        rank_channels(network, EXAMPLE, criterion="l1", seed=0, whole={"a.0", "b.0"})


def test_many_groups_fit_in_one_line() -> None:
    whole = layers_left_whole(made("Dense"), EXAMPLE, keep=["*"])
    assert len(whole) == 4 and in_one_line([*whole, whole[0]]).endswith("; and a")


class Chunked(Base):
    """The second half of a layer's channels are gates of the first half."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 32, 3), nn.Conv2d(16, 24, 3), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        values, gates = self.a(self.pixels(x)).chunk(2, 1)
        return self.fc(self.b(values * gates.sigmoid()).mean((2, 3)))


def test_channels_that_meet_in_a_product_go_together() -> None:
    torch.manual_seed(0)
    network = Chunked().eval()
    assert not layers_left_whole(network, EXAMPLE)
    groups = rank_channels(network, EXAMPLE, criterion="l1", seed=0)
    assert [(group.layers, len(group.importance), group.unit) for group in groups] == [(("a",), 16, 2), (("b",), 24, 1)]
    cut = cut_network(network, EXAMPLE, most_important(groups, lambda group: group.channels // 2))
    assert (cut.a.out_channels, cut.b.in_channels, cut.b.out_channels) == (16, 8, 12)


class Context(Base):
    """Attention to places by one channel, whose sum is added to all channels (global context)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = case_networks.cbr(3, 16)
        self.blocks = nn.ModuleList(case_networks.cbr(16, 16) for _ in range(3))
        self.places = nn.ModuleList(nn.Conv2d(16, 1, 1) for _ in range(3))
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(self.pixels(x))
        for block, place in zip(self.blocks, self.places, strict=True):
            h = h + block(h)
            weights = place(h).flatten(2).softmax(-1).unsqueeze(3)
            h = h + (h.flatten(2).unsqueeze(1) @ weights).view(h.shape[0], h.shape[1], 1, 1)
        return self.fc(h.mean((2, 3)))


def test_a_walk_around_a_circle_ends() -> None:
    torch.manual_seed(0)
    whole = layers_left_whole(Context().eval(), EXAMPLE)
    assert all(group.reason for group in whole)


def test_a_mixer_of_tokens_is_cut_around_the_layer_that_mixes_them() -> None:
    network = made("TokenMixer")
    assert [group.layers for group in layers_left_whole(network, EXAMPLE)] == [("tokens",)]
    cut = cut_network(network, EXAMPLE, lambda group: range(16) if "embed" in group.layers else None)
    assert cut.embed.weight.shape[0] == cut.channels.weight.shape[0] == cut.head.weight.shape[1] == 16
    assert cut.tokens.weight.shape == (16, 16) and cut(*EXAMPLE.values()).shape == (4, 10)
