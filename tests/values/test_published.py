"""Candidates and architectures that were published load as they are and keep their fingerprints.

`published.json` was written by the first release: rows of result tables with the study that they belong to, and the
stored forms of candidates of every shipped space and of some architectures.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nas_compress.config.search_space import load_space
from nas_compress.config.study_file import read_study
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate

ROOT = Path(__file__).parents[2]
PUBLISHED = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))


class Row:
    """A row of a table as a trial: each parameter has the value of its column."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._text(name))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._text(name))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        text = self._text(name)
        for choice in choices:
            is_number = isinstance(choice, (int, float))
            if text == str(choice) or (is_number and text.replace(".", "").isdigit() and float(text) == choice):
                return choice
        raise LookupError(name)

    def _text(self, name: str) -> str:
        if not self.values.get(name):
            raise LookupError(name)
        return self.values[name]


@pytest.mark.parametrize("table", PUBLISHED["rows"])
def test_every_row_of_a_published_table_is_the_candidate_that_it_was(table: str) -> None:
    known = PUBLISHED["rows"][table]
    study = ROOT / known["study"]
    space = load_space(read_study(study).spec.space, folder=study.parent, shipped=ROOT / "search_spaces")
    found = []
    with (ROOT / table).open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            try:
                candidate = space.function(Row(row))
            except LookupError:
                continue  # the teacher's row
            assert isinstance(candidate, Candidate)
            found.append(candidate.fingerprint)
    assert len(found) == known["rows"]
    together = hashlib.sha256(" ".join(found).encode()).hexdigest()[:16]
    assert known["fingerprints"] in (found, together)


@pytest.mark.parametrize("stored", PUBLISHED["candidates"], ids=lambda stored: stored["fingerprint"])
def test_a_stored_candidate_is_read_and_written_as_it_was(stored: Mapping[str, Any]) -> None:
    candidate = Candidate.from_dict(stored["candidate"])
    assert candidate.fingerprint == stored["fingerprint"]
    assert json.loads(json.dumps(candidate.to_dict())) == stored["candidate"]
    assert (candidate.control, candidate.precision.number_format) == (stored["control"], stored["format"])


@pytest.mark.parametrize("stored", PUBLISHED["architectures"])
def test_a_stored_architecture_is_read(stored: Mapping[str, Any]) -> None:
    found = Architecture.from_dict(stored)
    assert (found.family, list(found.depths), len(found.widths)) == (
        stored["family"], stored["depths"], len(stored["widths"]),
    )  # fmt: skip
    values = found.normalisation_of("input")
    assert (list(found.signature.image_shape), found.signature.classes) == (stored["input_shape"], stored["classes"])
    assert (values.mean, values.std) == (stored["mean"], stored["std"])
    for name, value in found.settings.to_dict().items():
        assert value == stored.get(name), name
    again = Architecture.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found and hash(again) == hash(found)
