"""Files of a confirmation: repetitions, test figures and their summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nas_compress.errors import RunError, describe
from nas_compress.files import read_json, write_json
from nas_compress.runs.csv_table import write_csv
from nas_compress.runs.folder import RunFolder
from nas_compress.values.metrics import figures_apart, in_table_order
from nas_compress.values.outcome import Outcome

STUDENT = "student"
"""The role of a member's own candidate. All other roles are controls."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One member in one role over its repetitions.

    The fields `validation_*` and `test_*` hold the confirmed metric. std is over seeds (n - 1), None for one seed.
    validation_search: the figure during the search; test_shipped: the test figure of its own file.
    Both are None for a control.
    figures: means over the repetitions of metrics known before training.
    failed: number of failed repetitions; they count in no mean.
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
    figures: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and CSV, the figures next to the other fields."""
        others = asdict(self)
        figures = others.pop("figures")
        return {**others, **figures}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Summary:
        """The inverse of `to_dict`. Older files write null for an unmeasured figure."""
        figures, own = figures_apart(values, (item.name for item in fields(cls)))
        return cls(figures=figures, **own)


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """The whole confirmation of a run.

    metric: the name of the confirmed metric. alike: pairs of members within noise of each other.
    conditions: of the latencies, empty for the default ones.
    """

    rows: tuple[Summary, ...]
    alike: tuple[tuple[int, int], ...]
    test_samples: int
    teacher_validation: float
    teacher_test: float
    metric: str = "accuracy"
    conditions: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of confirm.csv."""
        own = [item.name for item in fields(Summary) if item.name != "figures"]
        figures = in_table_order(name for row in self.rows for name in row.figures)
        return (*own, *figures, *(["conditions"] if self.conditions else []))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self) | {"rows": [row.to_dict() for row in self.rows]}
        return values if self.conditions else {name: value for name, value in values.items() if name != "conditions"}

    @property
    def students(self) -> tuple[Summary, ...]:
        """The rows of the members themselves, without controls."""
        return tuple(row for row in self.rows if row.role == STUDENT)

    @property
    def spreads(self) -> dict[int, tuple[float, float]]:
        """Mean and standard deviation of the metric on the validation split by trial, if both are known."""
        return {
            row.trial: (row.validation_mean, row.validation_std)
            for row in self.students
            if row.validation_mean is not None and row.validation_std is not None
        }


def repetition_folder(folder: RunFolder, trial: int, role: str, seed: int) -> Path:
    """The folder of one repetition: `confirm/<trial>/<role>-<seed>/`."""
    return folder.root / "confirm" / str(trial) / f"{role}-{seed}"


def write_repetition(place: Path, outcome: Outcome) -> None:
    """Write the outcome of a finished repetition in one step."""
    write_json(place / "outcome.json", outcome.to_dict())


def read_repetition(place: Path) -> Outcome | None:
    """The outcome of a repetition, None if it did not finish; RunError if the file is damaged."""
    path = place / "outcome.json"
    if not path.is_file():
        return None
    try:
        return Outcome.from_dict(read_json(path))
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({describe(error)}). Remove it and confirm again.") from error


def read_test_figures(folder: RunFolder) -> dict[str, float]:
    """The confirmed metric on the test split, by file path in the run folder; empty before the split was read."""
    path = folder.root / "confirm" / "test.json"
    return dict(read_json(path)["accuracies"]) if path.is_file() else {}


def write_test_figures(folder: RunFolder, figures: Mapping[str, float], purpose: str) -> None:
    """Write the test figures, and append the purpose of this reading of the test split to `reads`."""
    path = folder.root / "confirm" / "test.json"
    reads = read_json(path)["reads"] if path.is_file() else []
    write_json(path, {"reads": [*reads, purpose], "accuracies": dict(figures)})


def write_confirmation(folder: RunFolder, confirmation: Confirmation) -> None:
    """Write confirm.json, and confirm.csv with one row per member and role and one for the teacher."""
    write_json(folder.root / "confirm.json", confirmation.to_dict())
    conditions = {"conditions": confirmation.conditions} if confirmation.conditions else {}
    teacher = {
        "trial": "teacher",
        "validation_search": confirmation.teacher_validation,
        "test_shipped": confirmation.teacher_test,
    }
    rows = [row.to_dict() | conditions for row in confirmation.rows]
    write_csv(folder.root / "confirm.csv", confirmation.columns, [*rows, teacher])


def read_confirmation(folder: RunFolder) -> Confirmation | None:
    """The content of confirm.json, None if nothing was confirmed; RunError if the file is damaged."""
    path = folder.root / "confirm.json"
    if not path.is_file():
        return None
    try:
        values: dict[str, Any] = read_json(path)
        values["rows"] = tuple(Summary.from_dict(row) for row in values["rows"])
        values["alike"] = tuple((int(one), int(other)) for one, other in values["alike"])
        return Confirmation(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({describe(error)}). Confirm again.") from error
