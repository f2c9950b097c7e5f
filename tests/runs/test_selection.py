from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from nas_compress.errors import RequestError
from nas_compress.runs.front import Front
from nas_compress.runs.selection import OPERATORS, chosen_members, kept_members, parse_condition
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import Objective


def point(trial: int, accuracy: float, size_bytes: int, family: str, wide: bool = False) -> Point:
    searched = (("family", family), ("wide", wide)) if family else ()
    return Point(
        trial=trial,
        figures={"accuracy": accuracy, "latency_ms": 1.0, "size_bytes": size_bytes, "parameters": 10, "macs": 10},
        model=f"trials/{trial}/model.onnx",
        searched=searched,
    )


@pytest.fixture
def front() -> Front:
    return Front(
        objectives=(Objective(name="accuracy"), Objective(name="size_bytes")),
        points=(
            point(0, 0.95, 90_000, "resnet", wide=True),
            point(1, 0.90, 64_000, "mobilenet"),
            point(2, 0.80, 20_000, ""),
            point(3, 0.10, 99_000, "resnet"),
        ),
        classes=10,
    )


def trials(
    front: Front, *, best: Sequence[str] = (), where: Sequence[str] = (), everything: bool = False
) -> list[int | str]:
    return [point.trial for point in chosen_members(front, best=best, where=where, everything=everything)]


@pytest.mark.parametrize(
    ("best", "where", "trial"),
    [
        ("accuracy", [], 0),
        ("size_bytes", [], 2),
        ("accuracy", ["size_bytes<=64000"], 1),
        ("accuracy", ["size_bytes<64000"], 2),
        ("accuracy", ["size_bytes <= 6.4e4"], 1),
        ("size_bytes", ["accuracy>=0.9"], 1),
        ("size_bytes", ["accuracy > 0.9"], 0),
        ("accuracy", ["family==mobilenet"], 1),
        ("accuracy", ["family = mobilenet"], 1),
        ("accuracy", ["family!=resnet"], 1),
        ("accuracy", ["wide==False"], 1),
        ("accuracy", ["trial!=0", "size_bytes>20000"], 1),
        ("accuracy", ["model==trials/2/model.onnx"], 2),
        ("accuracy", ["trial!=0 and size_bytes>20000"], 1),
        ("size_bytes", ["accuracy>=0.85 and size_bytes<=99999", "family!=mobilenet"], 0),
    ],
)
def test_the_best_member_among_those_that_keep_every_condition(
    best: str, where: list[str], trial: int, front: Front
) -> None:
    assert trials(front, best=[best], where=where) == [trial]


def test_an_empty_cell_keeps_no_condition(front: Front) -> None:
    assert trials(front, where=["family!=nothing"], everything=True) == [0, 1]


def test_only_front_members_are_chosen(front: Front) -> None:
    with pytest.raises(RequestError, match=r"at least one of 3 front members, but none has accuracy<=0.5"):
        kept_members(front, ["accuracy<=0.5"])


def test_an_empty_front_has_no_members_to_choose(front: Front) -> None:
    with pytest.raises(RequestError, match="must have front members, but no finished trial is on its front"):
        kept_members(replace(front, points=()), [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sise_bytes<=3", r"got 'sise_bytes'; did you mean 'size_bytes'"),
        ("size_bytes", r"one of <=, >=, ==, !=, <, >, =, but got 'size_bytes'"),
        ("size_bytes=>3", r"must compare size_bytes with a number, but got 'size_bytes=>3'"),
        ("size_bytes<=64k", r"must compare size_bytes with a number"),
        ("<=3", r"column operator value"),
        ("", r"column operator value"),
    ],
)
def test_a_wrong_condition_is_refused(text: str, message: str, front: Front) -> None:
    with pytest.raises(RequestError, match=message):
        parse_condition(text, front.columns)


def test_an_unknown_figure_is_refused(front: Front) -> None:
    with pytest.raises(RequestError, match="'acuracy'; did you mean 'accuracy'"):
        chosen_members(front, best=["acuracy"])


@pytest.mark.parametrize("sign", OPERATORS)
def test_every_operator_is_read(sign: str) -> None:
    condition = parse_condition(f"macs{sign}5", ("macs",))
    assert (condition.column, condition.sign, condition.value) == ("macs", sign, "5")


def test_several_figures_choose_each_member_once(front: Front) -> None:
    assert trials(front, best=["size_bytes", "accuracy", "size_bytes"]) == [2, 0]


def test_the_knee_is_chosen_where_nothing_is_asked_for(front: Front) -> None:
    # costs from 0 to 1: (0, 1), (1/3, 0.77), (1, 0); the second is nearest to (0, 0)
    assert front.knee is not None
    assert trials(front) == [front.knee.trial] == [1]
    assert trials(front, where=["family!=mobilenet"]) == [0]
    assert trials(front, where=["trial!=1"], best=["latency_ms"]) == [0]


def test_all_and_best_exclude_each_other(front: Front) -> None:
    with pytest.raises(RequestError, match="at most one of --all and --best"):
        trials(front, best=["accuracy"], everything=True)
