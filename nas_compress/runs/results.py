"""The front of a run from its records, and the files made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from nas_compress.config.schema import StudySpec
from nas_compress.devices.onnx_session import read_content
from nas_compress.export.xz_container import compress
from nas_compress.plots.panel import Spreads
from nas_compress.plots.pareto import plot_front
from nas_compress.plots.progress_curves import plot_hypervolume
from nas_compress.runs.checks.model_files import model_path
from nas_compress.runs.confirmation import read_confirmation
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.front import Front
from nas_compress.runs.front_tables import write_front_csv, write_front_json
from nas_compress.runs.records import Record, read_records, require_teacher
from nas_compress.runs.saved_epochs import Savings
from nas_compress.values.file_constants import COMPRESSED
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import METRICS, Budget
from nas_compress.values.outcome import Measured


def read_front(folder: RunFolder) -> Front:
    """The front of a run folder."""
    records = read_records(folder)
    return make_front(folder.spec(), folder.chance(), require_teacher(folder, records), records)


def make_front(
    spec: StudySpec, chance: Mapping[str, float], baseline: Measured | None, records: Sequence[Record]
) -> Front:
    """A front of every measured trial without repeats, with the teacher as reference.

    chance: chance levels by metric. baseline: figures of the teacher, None before it was measured.
    """
    budgets = spec.budgets_against(None if baseline is None else baseline.figures)
    kept = [record for record in records if record.repeats is None and _is_here(record)]
    points = [point for record in kept for point in trial_points(record, budgets)]
    own = spec.teacher.epochs if spec.teacher.is_trained else None
    teacher = None
    if baseline is not None:
        teacher = Point(
            trial="teacher",
            figures=_known(baseline),
            model="teacher/model.onnx",
            epochs_spent=own,
            float32_latency_ms=baseline.float32_latency_ms,
            number_format="float32",
        )
    return Front(
        objectives=spec.objective_list,
        budgets=budgets,
        points=tuple(points),
        chance=tuple(chance.items()),
        conditions=spec.target.settings.conditions,
        device_conditions=spec.device_conditions,
        teacher=teacher,
    )


def zero_fractions(records: Sequence[Record]) -> dict[int | str, float]:
    """The measured fraction of zero weights by trial, for trials trained to have zeros."""
    return {
        record.trial: record.outcome.measured.zero_fraction
        for record in records
        if record.outcome.candidate.sparsity.pattern != "none"
        and record.outcome.measured is not None
        and record.outcome.measured.zero_fraction is not None
    }


def byte_steps(folder: RunFolder, record: Record, *, coded: bool = True) -> list[tuple[str, int]]:
    """Names and bytes of the compression steps from the teacher's file to the trial's; empty if another host has it.

    Networks with zeros or shared values have the steps of `export.layout.STEPS` in between.
    coded: whether to compress an uncompressed file for the last step, which takes 0.25 s.
    DamagedFileError if the file is not the one that was measured.
    """
    if not record.model:
        return []
    measured, path = record.outcome.measured, model_path(folder, record)
    teacher = require_teacher(folder, [record])
    content = read_content(path)
    steps = [] if teacher is None else [("the teacher, float32", int(teacher.figure("size_bytes")))]
    if measured is not None:
        steps += [(f"this network, {name}", size) for name, size in measured.steps.items()]
    steps.append(("this file", len(content)))
    if path.suffix == COMPRESSED:
        steps.append(("compressed", path.stat().st_size))
    elif coded:
        steps.append(("compressed", len(compress(content))))
    return steps


def write_front(folder: RunFolder, front: Front, saved: Savings) -> None:
    """Write front.csv and front.json."""
    write_front_csv(front, folder.root / "front.csv")
    write_front_json(front, folder.root / "front.json", stopping=asdict(saved))


def draw_front(folder: RunFolder, front: Front, title: str) -> None:
    """Draw front.png."""
    plot_front(front, folder.root / "front.png", title=title, spreads=read_spreads(folder))


def read_spreads(folder: RunFolder) -> Spreads:
    """The confirmed spreads of the members; empty if nothing was confirmed."""
    found = read_confirmation(folder)
    return Spreads(by_trial=found.spreads, alike=found.alike, metric=found.metric) if found else Spreads(by_trial={})


def write_history(folder: RunFolder, front: Front, records: Sequence[Record], title: str) -> None:
    """Write hypervolume.png: the growth of the front. None while a lost device leaves out the teacher."""
    if front.reference is None and front.teacher is not None:
        return
    _plot_history(front, records, folder.root / "hypervolume.png", title)


def draw(folder: RunFolder, out: Path | None) -> list[Path]:
    """Draw the front to `out`, by default front.png, and its history next to it; return the paths.

    Without the teacher's figures on a lost device there is no history.
    """
    front, records, title = read_front(folder), read_records(folder), folder.spec().name
    picture = out or folder.root / "front.png"
    history = picture.with_name(
        f"hypervolume{picture.suffix}" if out is None else f"{picture.stem}-hypervolume{picture.suffix}"
    )
    plot_front(front, picture, title=title, spreads=read_spreads(folder))
    if front.reference is None and front.teacher is not None:
        return [picture]
    _plot_history(front, records, history, title)
    return [picture, history]


def _plot_history(front: Front, records: Sequence[Record], path: Path, title: str) -> None:
    finished = [
        (record.finished_s, point)
        for record in sorted(records, key=lambda record: record.finished_s)
        if record.outcome.measured is not None
        for point in trial_points(record, front.budgets)
    ]
    plot_hypervolume(finished, front, path, title=title)


def _is_here(record: Record) -> bool:
    """Whether the record has figures and, if it was trained, a file on this host."""
    return record.outcome.measured is not None and bool(record.model or record.outcome.state != "trained")


def trial_points(record: Record, budgets: Sequence[Budget] = ()) -> list[Point]:
    """The point of a measured trial, and those of its network with other thresholds of its early exits.

    budgets: of the study, which the other points must meet too. ValueError if the trial was not measured.
    """
    outcome = record.outcome
    if outcome.measured is None:
        raise ValueError(f"trial {record.trial} was not measured")
    own = Point(
        trial=record.trial,
        figures=_known(outcome.measured),
        epochs_spent=outcome.epochs_spent,
        model=record.model,
        searched=tuple(record.params.items()),
        feasible=outcome.state == "trained" and outcome.reason is None,
        stopped=outcome.state == "stopped",
        float32_latency_ms=outcome.measured.float32_latency_ms,
        number_format=outcome.number_format,
        early_exits=outcome.measured.exits is not None,
    )
    exits = outcome.measured.exits
    if exits is None or outcome.state != "trained":
        return [own]
    others = []
    for number, _ in exits.other_points:
        measured = outcome.measured.at_exit_point(number)
        meets = all(b.name in measured.figures and b.violation(measured.figures[b.name]) <= 0 for b in budgets)
        others.append(
            replace(own, figures=_known(measured), exit_point=number, feasible=meets, float32_latency_ms=None)
        )
    return [own, *others]


def _known(measured: Measured) -> dict[str, float]:
    """The figures of known metrics: a record may come from a version with more of them."""
    return {name: value for name, value in measured.figures.items() if name in METRICS}
