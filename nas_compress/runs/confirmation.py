"""Files of a confirmation: repetitions, test figures and their summary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from nas_compress.errors import DamagedFileError
from nas_compress.files import read_sealed_json, write_sealed_json
from nas_compress.runs.checks.plausible import require_numbers, require_plausible_files, require_plausible_outcome
from nas_compress.runs.csv_table import write_csv
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import UNREADABLE, damaged, read_with_files
from nas_compress.values.metrics.table import figures_apart, in_table_order
from nas_compress.values.outcome import Outcome

Label: TypeAlias = int | str
"""A member by the number of its trial, with the number of its exit point behind a slash, such as `7/2`."""

AT_POINT = re.compile(r"@\d+$")
"""End of the name of a file with the thresholds of an exit point, which is not kept."""

STUDENT = "student"
"""The role of a member's own candidate. All other roles are controls."""

TEST_REMEDY = (
    "Restore it from a copy, or remove confirm.json and confirm/test.json and confirm again, which reads the test "
    "split once more."
)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One member in one role over its repetitions.

    The fields `validation_*` and `test_*` hold the confirmed metric. std is over seeds (n - 1), None for one seed.
    validation_search: the figure during the search; test_shipped: the test figure of its own file.
    Both are None for a control.
    figures: means over the repetitions of metrics known before training.
    failed: number of failed repetitions; they count in no mean.
    exit_point: of the member, None for the thresholds of the trial itself.
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
    exit_point: int | None = None

    @property
    def label(self) -> Label:
        """The number of the trial, or a text with that of the exit point behind it."""
        return self.trial if self.exit_point is None else f"{self.trial}/{self.exit_point}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and CSV, the figures next to the other fields."""
        others = asdict(self)
        figures, exit_point = others.pop("figures"), others.pop("exit_point")
        return {**others, **({} if exit_point is None else {"exit_point": exit_point}), **figures}

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
    alike: tuple[tuple[Label, Label], ...]
    test_samples: int
    teacher_validation: float
    teacher_test: float
    metric: str = "accuracy"
    conditions: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of confirm.csv."""
        own = [item.name for item in fields(Summary) if item.name not in ("figures", "exit_point")]
        if any(row.exit_point is not None for row in self.rows):
            own.insert(1, "exit_point")
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
            if row.validation_mean is not None and row.validation_std is not None and row.exit_point is None
        }


def repetition_folder(folder: RunFolder, trial: int, role: str, seed: int) -> Path:
    """The folder of one repetition: `confirm/<trial>/<role>-<seed>/`."""
    return folder.root / "confirm" / str(trial) / f"{role}-{seed}"


def repetition_remedy(place: Path) -> str:
    """Say how to continue without a damaged file of a repetition."""
    return f"Restore it from a copy, or remove {place} and confirm again: the repetition is trained again."


def write_repetition(place: Path, outcome: Outcome, *, files: Mapping[str, str]) -> None:
    """Write the outcome of a finished repetition in one step. files: SHA-256 by path in the run folder."""
    write_sealed_json(place / "outcome.json", {**outcome.to_dict(), "files": dict(files)})


def read_repetition(folder: RunFolder, place: Path) -> tuple[Outcome, dict[str, str]] | None:
    """The outcome of a repetition and the SHA-256 of its files by path in the run folder.

    None if it did not finish; DamagedFileError if the file is damaged.
    """

    def parse(values: Mapping[str, Any]) -> Outcome:
        outcome = Outcome.from_dict(values)
        require_plausible_outcome(outcome)
        return outcome

    return read_with_files(folder, place / "outcome.json", parse, remedy=repetition_remedy(place))


def read_test_figures(folder: RunFolder) -> dict[str, tuple[float, str]]:
    """The confirmed metric on the test split and the SHA-256 of the measured file, by path in the run folder.

    Empty before the split was read. The SHA-256 is empty if an earlier version measured the file.
    DamagedFileError if the file is damaged, or missing although there is a confirmation.
    """
    path = _test_path(folder)
    if not folder.has(path):
        if folder.sealed and folder.has(folder.root / "confirm.json"):
            raise DamagedFileError(f"{path} is missing. {TEST_REMEDY}")
        return {}
    values = _test_values(folder)
    return {name: (figure, values["files"].get(name, "")) for name, figure in values["accuracies"].items()}


def write_test_figures(folder: RunFolder, figures: Mapping[str, tuple[float, str]], purpose: str) -> None:
    """Write the test figures, and append the purpose of this reading of the test split to `reads`."""
    path = _test_path(folder)
    reads = _test_values(folder)["reads"] if path.is_file() else []
    write_sealed_json(
        path,
        {
            "reads": [*reads, purpose],
            "accuracies": {name: figure for name, (figure, _) in figures.items()},
            "files": {name: digest for name, (_, digest) in figures.items() if digest},
        },
    )


def write_confirmation(folder: RunFolder, confirmation: Confirmation) -> None:
    """Write confirm.json, and confirm.csv with one row per member and role and one for the teacher."""
    write_sealed_json(folder.root / "confirm.json", confirmation.to_dict())
    conditions = {"conditions": confirmation.conditions} if confirmation.conditions else {}
    teacher = {
        "trial": "teacher",
        "validation_search": confirmation.teacher_validation,
        "test_shipped": confirmation.teacher_test,
    }
    rows = [row.to_dict() | conditions for row in confirmation.rows]
    write_csv(folder.root / "confirm.csv", confirmation.columns, [*rows, teacher])


def read_confirmation(folder: RunFolder) -> Confirmation | None:
    """The content of confirm.json, None if nothing was confirmed; DamagedFileError if the file is damaged."""
    path = folder.root / "confirm.json"
    if not folder.has(path):
        return None
    try:
        values: dict[str, Any] = read_sealed_json(path, required=folder.sealed)
        values["rows"] = tuple(Summary.from_dict(row) for row in values["rows"])
        values["alike"] = tuple((_label(one), _label(other)) for one, other in values["alike"])
        confirmation = Confirmation(**values)
        for row in values["rows"]:
            require_numbers(row.to_dict(), texts=("role",))
        require_numbers(
            asdict(replace(confirmation, rows=(), alike=())), texts=("metric", "rows", "alike", "conditions")
        )
        return confirmation
    except (DamagedFileError, *UNREADABLE) as error:
        raise damaged(path, error, "Restore it from a copy, or remove it and confirm again.") from error


def _label(value: Any) -> Label:
    return str(value) if isinstance(value, str) else int(value)


def _test_path(folder: RunFolder) -> Path:
    return folder.root / "confirm" / "test.json"


def _test_values(folder: RunFolder) -> dict[str, Any]:
    path = _test_path(folder)
    try:
        values = read_sealed_json(path, required=folder.sealed)
        require_numbers(values["accuracies"])
        values.setdefault("files", {})
        require_plausible_files({AT_POINT.sub("", name): digest for name, digest in values["files"].items()})
        return {"reads": list(values["reads"]), "accuracies": values["accuracies"], "files": values["files"]}
    except (DamagedFileError, *UNREADABLE) as error:
        raise damaged(path, error, TEST_REMEDY) from error
