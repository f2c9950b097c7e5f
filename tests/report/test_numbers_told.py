"""What numbers a file computes with, and that some are only simulated: told everywhere where its latency stands."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from torch import Tensor, nn

from image_files import export_images
from nas_compress.cli.show import show
from nas_compress.plots.marks import legend_entries
from nas_compress.report.page import report_page
from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.checks.model_files import digests_of_trial
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.front_tables import write_front_csv, write_front_json
from nas_compress.runs.records import read_records, write_record
from nas_compress.runs.results import read_front
from nas_compress.search.reporter import trial_line
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Outcome
from nas_compress.values.precision import Quantization

MakeRun = Callable[..., RunFolder]
WORDS = "int4, 4-bit activations simulated"
NOTE = "the latency is of the simulation, no device has such kernels"


def printed(folder: RunFolder, *options: str) -> str:
    result = CliRunner().invoke(show, [str(folder.root), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    ("bits", "quantization", "words"),
    [
        ((32, 32), Quantization(), "float32"),
        ((16, 32), Quantization(), "float16 weights"),
        ((8, 32), Quantization(weight_format="float8"), "float8 weights"),
        ((8, 32), Quantization(), "int8 weights"),
        ((8, 8), Quantization(), "int8"),
        ((4, 4), Quantization(), WORDS),
        ((1, 8), Quantization(method="lsq"), "binary"),
        ((3, 32), Quantization(weight_format="codebook"), "3-bit codebook weights"),
        ((8, 4), Quantization(stage_bits=(1, 8, 4)), "binary to int8, 4-bit activations simulated"),
    ],
)
def test_a_candidate_says_its_numbers_in_words(bits: tuple[int, int], quantization: Quantization, words: str) -> None:
    weight_bits, activation_bits = bits
    candidate = Candidate(
        family="resnet",
        depths=(1, 1, 1),
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        quantization=quantization,
    )
    assert candidate.precision.number_format == words


def test_integer_kernels_that_did_not_ship_are_not_told() -> None:
    candidate = Candidate(family="vit", depths=(1,), weight_bits=8, activation_bits=8)
    outcome = Outcome(candidate=candidate, seed=0, state="trained")
    assert [one.number_format for one in (outcome, replace(outcome, integer_latency_ms=0.5))] == [
        "int8",
        "int8 weights",
    ]


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, samples: Tensor) -> Tensor:
        return self.layer(samples.flatten(1).float())


def test_simulated_activations_are_marked_wherever_their_latency_stands(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(trained=6)
    assert "simulat" not in printed(folder)
    member = read_front(folder).members[0].trial
    (record,) = (one for one in read_records(folder) if one.trial == member)
    outcome = replace(
        record.outcome,
        # the bits are no searched parameter: the mark comes from the candidate
        candidate=replace(record.outcome.candidate, weight_bits=4, activation_bits=4),
        architecture=Architecture.of_images(
            (1, 8, 8), classes=10, mean=0, std=1.0, family="resnet", widths=(), depths=(1, 1, 1)
        ),
    )
    export_images(Flat(), (1, 8, 8), folder.root / record.model)
    record = replace(record, outcome=outcome, files=digests_of_trial(folder, record.model))
    write_record(folder, record)

    shown = printed(folder)
    assert WORDS in shown and NOTE in shown
    assert {row["trial"]: row["number_format"] for row in json.loads(printed(folder, "--json"))}[member] == WORDS
    assert WORDS in printed(folder, "--trial", str(member)) and NOTE in printed(folder, "--trial", str(member))
    assert json.loads(printed(folder, "--trial", str(member), "--json"))["number_format"] == WORDS

    front = read_front(folder)
    assert WORDS in trial_line(record, front, 6, 6)
    write_front_csv(front, tmp_path / "front.csv")
    with (tmp_path / "front.csv").open() as handle:
        assert {row["trial"]: row["number_format"] for row in csv.DictReader(handle)}[str(member)] == WORDS
    write_front_json(front, tmp_path / "front.json")
    told = json.loads((tmp_path / "front.json").read_text())
    assert told["members"][0]["number_format"] == WORDS
    assert f"shape: {WORDS}" in [entry.get_label() for entry in legend_entries(front, budgets=False)]

    text = " ".join(report_page(folder).split())
    assert f"resnet, {WORDS}" in text and NOTE in text
    export_bundle(folder, int(member), tmp_path / "bundle")
    assert json.loads((tmp_path / "bundle" / "metrics.json").read_text())["number_format"] == WORDS
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert f"| numbers | {WORDS} | float32 |" in card and NOTE in card
