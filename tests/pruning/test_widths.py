import numpy as np
import pytest

from nas_compress.pruning.channel_groups import ChannelGroup
from nas_compress.pruning.widths import round_to_step, student_fractions, student_widths, whole_heads
from nas_compress.values.architecture import Width


def group(*layers: str, position: float) -> ChannelGroup:
    return ChannelGroup(layers=layers, position=position, importance=np.zeros(4))


GROUPS = (group("a", position=0.0), group("b", "b2", position=0.5), group("c", position=1.0))
FRACTIONS = (1.0, 0.5, 0.25)


@pytest.mark.parametrize(
    ("asked", "step", "channels"),
    [(24, 16, 32), (23.9, 16, 16), (40, 16, 48), (0.1, 8, 8), (12, 8, 16), (11.9, 8, 8), (128, 16, 128), (1, 1, 1)],
)
def test_rounding_by_hand(asked: float, step: int, channels: int) -> None:
    assert round_to_step(asked, step) == channels


def test_rounding_is_to_the_nearest_and_never_to_nothing() -> None:
    for step in (1, 8, 16):
        widths = [round_to_step(asked, step) for asked in np.arange(0.0, 100, 0.25)]
        assert widths == sorted(widths) and widths[0] == step and all(width % step == 0 for width in widths)
        for asked, width in zip(np.arange(0.0, 100, 0.25), widths, strict=True):
            assert abs(width - asked) <= step / 2 or width == step


def widths(layers: list[tuple[str, int]], *, same_family: bool, multiplier: float = 1.0, step: int = 8) -> list[Width]:
    fractions = student_fractions(layers, groups=GROUPS, fractions=FRACTIONS, same_family=same_family)
    return list(student_widths(layers, list(fractions.values()), width_multiplier=multiplier, step=step))


def test_another_family_takes_the_fraction_at_its_depth() -> None:
    layers = [(name, 64) for name in "cabde"]  # the names mean nothing in another family
    found = widths(layers, same_family=False)
    assert [width.layer for width in found] == list("cabde")
    assert [width.asked for width in found] == [64, 48, 32, 24, 16]
    assert [width.channels for width in found] == [64, 48, 32, 24, 16]


def test_the_multiplier_scales_before_rounding() -> None:
    found = widths([(name, 64) for name in "cabde"], same_family=False, multiplier=0.5)
    assert [width.asked for width in found] == [32, 24, 16, 12, 8]
    assert [width.channels for width in found] == [32, 24, 16, 16, 8]


def test_the_same_family_takes_its_own_layers_fraction() -> None:
    found = widths([("c", 64), ("new", 64), ("b2", 32), ("a", 16)], same_family=True)
    assert [width.asked for width in found] == [16, pytest.approx(64 * 2 / 3, abs=1e-3), 16, 16]


def test_a_single_layer_stands_at_the_input() -> None:
    assert [width.asked for width in widths([("x", 64)], same_family=False)] == [64]


def test_without_a_vote_only_the_multiplier_counts() -> None:
    layers = [("a", 32), ("b", 64)]
    fractions = student_fractions(layers, groups=(), fractions=(), same_family=True)
    assert fractions == {"a": 1.0, "b": 1.0}
    found = student_widths(layers, list(fractions.values()), width_multiplier=0.75, step=16)
    assert [(width.asked, width.channels) for width in found] == [(24, 32), (48, 48)]


def test_heads_go_as_a_whole_and_each_layer_keeps_its_least() -> None:
    layers = tuple(Width(layer=name, asked=48.0, channels=48) for name in "abc")
    cut, heads = whole_heads(layers, {"a": 0.5, "c": 0.0}, heads=6, min_heads=2)
    assert heads == (3, 2)
    assert [(width.asked, width.channels) for width in cut] == [(24, 24), (48, 48), (0, 16)]
    assert whole_heads(layers[:1], {"a": 0.0}, heads=1, min_heads=4)[1] == (1,)
