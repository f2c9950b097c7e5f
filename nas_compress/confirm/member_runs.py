"""Trainings of a member with new seeds, with the figures and files at its exit point."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nas_compress.confirm.statistics import summarise
from nas_compress.confirm.tested_files import TestedFile, same_point, tested_at
from nas_compress.errors import RequestError
from nas_compress.runs.checks.model_files import model_path
from nas_compress.runs.confirmation import STUDENT, Summary
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record
from nas_compress.values.candidate import Candidate
from nas_compress.values.front_point import Point
from nas_compress.values.outcome import Measured, Outcome


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """One planned training of a member's candidate, or of a control, with one seed.

    role: STUDENT or the name of the control. place: folder of the outcome and the file.
    """

    record: Record
    role: str
    seed: int
    candidate: Candidate
    place: Path

    @property
    def label(self) -> str:
        """The words for progress lines."""
        return f"trial {self.record.trial}, {self.role}, seed {self.seed}"

    @property
    def file(self) -> Path:
        """The model file, in the form of the member's file."""
        return self.place / Path(self.record.model).name


@dataclass(frozen=True, kw_only=True)
class MemberRun:
    """The trainings of a member, or of its control, at the member's exit point.

    trained: the outcomes with the figures of the point and their files. outcomes: of all trainings. own: the member's
    own file with its figures; None for a control.
    """

    trial: int
    exit_point: int | None
    role: str
    trained: Sequence[tuple[Outcome, TestedFile]]
    outcomes: Sequence[Outcome]
    own: tuple[Measured | None, TestedFile] | None

    @property
    def files(self) -> list[TestedFile]:
        """All files of the member."""
        return [*(file for _, file in self.trained), *([] if self.own is None else [self.own[1]])]

    def summary(self, test: Mapping[str, float], root: Path, metric: str) -> Summary:
        """Summarise the member. test: figures on the test split by the name of the file."""
        failed = [outcome for outcome in self.outcomes if outcome.state != "trained"]
        return summarise(
            self.trial,
            self.role,
            [*(outcome for outcome, _ in self.trained), *failed],
            [test[file.name(root)] for _, file in self.trained],
            metric=metric,
            searched=None if self.own is None else self.own[0],
            test_shipped=None if self.own is None else test[self.own[1].name(root)],
            exit_point=self.exit_point,
        )


def member_runs(
    folder: RunFolder, members: Sequence[Point], records: Sequence[Record], pairs: Sequence[tuple[Repetition, Outcome]]
) -> list[MemberRun]:
    """One for each member and role, in the order of the members."""
    by_trial = {record.trial: record for record in records}
    runs = []
    for trial, exit_point in dict.fromkeys((int(point.trial), point.exit_point) for point in members):
        record = by_trial[trial]
        own = [(item, outcome) for item, outcome in pairs if item.record is record]
        for role in dict.fromkeys(item.role for item, _ in own):
            mine = [(item, outcome) for item, outcome in own if item.role == role]
            trained = [_at_member(record, exit_point, *pair) for pair in mine if pair[1].state == "trained"]
            shipped = _shipped(folder, record, exit_point) if role == STUDENT else None
            runs.append(
                MemberRun(
                    trial=trial,
                    exit_point=exit_point,
                    role=role,
                    trained=trained,
                    outcomes=[outcome for _, outcome in mine],
                    own=shipped,
                )
            )
    return runs


def require_points(members: Sequence[Point], kept: Sequence[tuple[Repetition, Outcome]]) -> None:
    """Raise RequestError if a finished training lacks the exit point of a member. kept: of an earlier call."""
    for point, (item, outcome) in itertools.product(members, kept):
        searched, measured = item.record.outcome.measured, outcome.measured
        if item.record.trial != int(point.trial) or outcome.state != "trained" or searched is None or measured is None:
            continue
        try:
            same_point(searched, point.exit_point, measured)
        except RequestError as error:
            raise RequestError(f"{error} ({item.place}); delete this folder to train it again") from None


def _at_member(
    record: Record, exit_point: int | None, item: Repetition, outcome: Outcome
) -> tuple[Outcome, TestedFile]:
    """Return a finished training with the figures at the exit point of a member, and its file with the thresholds."""
    searched, measured = record.outcome.measured, outcome.measured
    if exit_point is None or searched is None or measured is None:
        return outcome, TestedFile(path=item.file)
    number = same_point(searched, exit_point, measured)
    found = measured if number is None else measured.at_exit_point(number)
    return replace(outcome, measured=found), tested_at(item.file, measured, number)


def _shipped(folder: RunFolder, record: Record, exit_point: int | None) -> tuple[Measured | None, TestedFile]:
    """Return the figures of a member and its own file."""
    path, measured = model_path(folder, record), record.outcome.measured
    if exit_point is None or measured is None:
        return measured, TestedFile(path=path)
    return measured.at_exit_point(exit_point), tested_at(path, measured, exit_point)
