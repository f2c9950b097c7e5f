"""Which blocks stay, by hand; and networks without the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from image_batches import labelled
from nas_compress.errors import RequestError
from nas_compress.models.families import FAMILIES
from nas_compress.models.features import ObservableNetwork
from nas_compress.models.layers import Residual
from nas_compress.models.transformer_layers import EncoderLayer
from nas_compress.pruning.depth import block_importance, choose_blocks, removable_blocks, without_blocks

MakeNetwork = Callable[..., ObservableNetwork]
SAMPLES = torch.randint(0, 17, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
BATCHES = labelled(zip(SAMPLES.split(10), (torch.arange(20) % 10).split(10), strict=True))
DEPTHS = {"resnet": (3, 2, 1), "mobilenet": (1, 3, 2), "vit": (3,)}
REMOVABLE = {
    "resnet": ((True, True, True), (False, True), (False,)),
    "mobilenet": ((False,), (False, True, True), (False, True)),
    "vit": ((True, True, True),),
}
every_family = pytest.mark.parametrize("family", DEPTHS)


@pytest.mark.parametrize(
    ("kept", "chosen"),
    [
        ("first", ((0, 1), (0, 1), (0,))),
        ("last", ((2, 3), (0, 3), (0,))),
        ("alternate", ((0, 2), (0, 2), (0,))),
        ("spread", ((0, 3), (0, 3), (0,))),
        ("importance", ((0, 3), (0, 2), (0,))),
    ],
)
def test_the_choice_by_hand(kept: str, chosen: tuple[tuple[int, ...], ...]) -> None:
    free, worth = [[True] * 4, [False, True, True, True], [False]], [[3.0, -1, 1, 2], [0, 1, 3, 2], [0]]
    assert choose_blocks(free, [2, 2, 5], kept=kept, importance=worth) == chosen
    assert choose_blocks(free, [4, 4, 1], kept=kept, importance=worth) == ((0, 1, 2, 3), (0, 1, 2, 3), (0,))
    assert choose_blocks(free, [1, 1, 1], kept=kept, importance=worth)[1] == (0,), "what changes the shape stays"


def test_half_of_a_known_encoder_stays_as_published() -> None:
    def half(kept: str, layers: int, depth: int) -> tuple[int, ...]:
        return choose_blocks([[True] * layers], [depth], kept=kept)[0]

    assert half("spread", 12, 6) == (0, 2, 4, 7, 9, 11) and half("spread", 12, 3) == (0, 6, 11)
    assert half("alternate", 12, 6) == (0, 2, 4, 6, 8, 10) and half("alternate", 6, 3) == (0, 2, 4)
    assert half("spread", 3, 1) == half("alternate", 3, 1) == (0,)


def silence_(block: nn.Module) -> None:
    """Let a block add nothing to its input."""
    with torch.no_grad():
        if isinstance(block, EncoderLayer):
            for layer in (block.attention.output, block.mlp.outer):
                layer.weight.zero_()
                layer.bias.zero_()
        elif isinstance(block, Residual):
            block.main[-1].norm.weight.zero_()
            block.main[-1].norm.bias.zero_()


@every_family
def test_a_block_that_adds_nothing_goes_without_a_trace(family: str, make_network: MakeNetwork) -> None:
    network = make_network(family, DEPTHS[family])
    assert removable_blocks(network, FAMILIES[family]) == REMOVABLE[family]
    stage = 0 if family != "mobilenet" else 1
    silence_((network.layers if family == "vit" else network.stages[stage])[1])
    importance = block_importance(network, FAMILIES[family], BATCHES)
    assert importance[stage][1] == pytest.approx(0, abs=1e-6)
    for free, rises in zip(removable_blocks(network, FAMILIES[family]), importance, strict=True):
        for may_go, rise in zip(free, rises, strict=True):
            assert may_go or rise == 0
    assert sum(abs(rise) > 1e-4 for rises in importance for rise in rises) >= 2

    kept = [tuple(range(depth)) for depth in DEPTHS[family]]
    kept[stage] = tuple(number for number in kept[stage] if number != 1)
    shorter = without_blocks(network, FAMILIES[family], tuple(kept)).eval()
    torch.testing.assert_close(shorter(SAMPLES), network(SAMPLES))
    assert removable_blocks(network, FAMILIES[family]) == REMOVABLE[family], "the teacher stays whole"
    assert len(list(shorter.parameters())) < len(list(network.parameters()))


def test_what_is_no_block_or_no_choice_is_refused() -> None:
    for family, kind in (("resnet", "StagedNetwork"), ("vit", "VisionTransformer")):
        with pytest.raises(RequestError, match=f"must be a {kind}, but got Linear"):
            removable_blocks(nn.Linear(1, 1), FAMILIES[family])
    with pytest.raises(RequestError, match="kept_blocks must be a known name, but got 'lst'; did you mean 'last'"):
        choose_blocks([[True]], [1], kept="lst")
