"""What confirmation leaves in a run folder: every repetition, the test accuracies, and the summary of both."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nas_compress.errors import RunError, describe
from nas_compress.files import read_json, write_json, write_text
from nas_compress.runs.folder import RunFolder
from nas_compress.values.outcome import Outcome

STUDENT = "student"
"""The role of a member's own candidate; every other role is a control."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One member in one role, over its repetitions. Accuracies are fractions; std is over seeds (n - 1), None for one.

    `validation_search` is the figure by which the search chose the member, `test_shipped` the test accuracy of its
    own file; both are None for a control. `failed` repetitions count in no mean.
    """

    trial: int
    role: str
    seeds: int
    failed: int
    epochs: int
    validation_search: float | None
    validation_mean: float | None
    validation_std: float | None
    test_shipped: float | None
    test_mean: float | None
    test_std: float | None
    latency_ms: float | None
    size_bytes: int | None
    parameters: int | None


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """The whole confirmation of a run. `alike` are pairs of members that the test accuracies do not tell apart."""

    rows: tuple[Summary, ...]
    alike: tuple[tuple[int, int], ...]
    test_samples: int
    teacher_validation: float
    teacher_test: float

    @property
    def students(self) -> tuple[Summary, ...]:
        """The rows of the members themselves, without controls."""
        return tuple(row for row in self.rows if row.role == STUDENT)

    @property
    def spreads(self) -> dict[int, tuple[float, float]]:
        """Mean and standard deviation of the validation accuracy by trial, where both are known."""
        return {
            row.trial: (row.validation_mean, row.validation_std)
            for row in self.students
            if row.validation_mean is not None and row.validation_std is not None
        }


def repetition_folder(folder: RunFolder, trial: int, role: str, seed: int) -> Path:
    """Where one repetition lies: `confirm/<trial>/<role>-<seed>/`."""
    return folder.root / "confirm" / str(trial) / f"{role}-{seed}"


def write_repetition(place: Path, outcome: Outcome) -> None:
    """Write a repetition's outcome in one step: it is there whole, or the repetition did not finish."""
    write_json(place / "outcome.json", outcome.to_dict())


def read_repetition(place: Path) -> Outcome | None:
    """A repetition's outcome, None where it did not finish. RunError where the file is damaged."""
    path = place / "outcome.json"
    if not path.is_file():
        return None
    try:
        return Outcome.from_dict(read_json(path))
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"a record must be whole, but {path} is damaged ({describe(error)}); remove it") from error


def read_test_accuracies(folder: RunFolder) -> dict[str, float]:
    """Test accuracy by the path of the file, relative to the run folder; empty before the test split was read."""
    path = folder.root / "confirm" / "test.json"
    return dict(read_json(path)["accuracies"]) if path.is_file() else {}


def write_test_accuracies(folder: RunFolder, accuracies: Mapping[str, float], purpose: str) -> None:
    """Keep the test accuracies, and in `reads` what each reading of the test split was for."""
    path = folder.root / "confirm" / "test.json"
    reads = read_json(path)["reads"] if path.is_file() else []
    write_json(path, {"reads": [*reads, purpose], "accuracies": dict(accuracies)})


def write_confirmation(folder: RunFolder, confirmation: Confirmation) -> None:
    """Write confirm.json, and confirm.csv with a row for each member and role and one for the teacher."""
    write_json(folder.root / "confirm.json", asdict(confirmation))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[field.name for field in fields(Summary)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in confirmation.rows)
    writer.writerow(
        {
            "trial": "teacher",
            "validation_search": confirmation.teacher_validation,
            "test_shipped": confirmation.teacher_test,
        }
    )
    write_text(folder.root / "confirm.csv", text.getvalue())


def read_confirmation(folder: RunFolder) -> Confirmation | None:
    """What confirm.json says, None where nothing was confirmed."""
    path = folder.root / "confirm.json"
    if not path.is_file():
        return None
    try:
        values: dict[str, Any] = read_json(path)
        values["rows"] = tuple(Summary(**row) for row in values["rows"])
        values["alike"] = tuple((int(one), int(other)) for one, other in values["alike"])
        return Confirmation(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"a record must be whole, but {path} is damaged ({describe(error)}); confirm again") from error
