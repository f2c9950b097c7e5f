"""From the records of a run to its front, and the front's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from nas_compress.config.schema import StudySpec
from nas_compress.plots.hypervolume_history import plot_hypervolume
from nas_compress.plots.pareto import plot_front
from nas_compress.plots.spread import Spreads
from nas_compress.runs.confirmation import read_confirmation
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.front import Front
from nas_compress.runs.front_files import write_front_csv, write_front_json
from nas_compress.runs.records import Record, read_baseline, read_records
from nas_compress.runs.savings import Savings
from nas_compress.values.metrics import METRICS
from nas_compress.values.outcome import Measured
from nas_compress.values.point import Point


def read_front(folder: RunFolder) -> Front:
    """The front as the files of the run folder tell it."""
    return make_front(folder.spec(), int(folder.about()["classes"]), read_baseline(folder), read_records(folder))


def make_front(spec: StudySpec, classes: int, baseline: Measured | None, records: Sequence[Record]) -> Front:
    """Points from every measured trial that did not repeat another; the teacher as the reference."""
    points = [_point(record) for record in records if record.repeats is None and _is_here(record)]
    own = spec.teacher.epochs if spec.teacher.factory is None else None
    teacher = _figures("teacher", baseline, "teacher/model.onnx", epochs_spent=own) if baseline is not None else None
    return Front(
        objectives=spec.objective_list,
        budgets=spec.budget_list,
        points=tuple(points),
        classes=classes,
        teacher=teacher,
    )


def zero_fractions(records: Sequence[Record]) -> dict[int | str, float]:
    """The measured fraction of zeros among the weights of each trial that was asked for zeros, by its number."""
    return {
        record.trial: record.outcome.measured.zero_fraction
        for record in records
        if record.outcome.candidate.zero_pattern != "none"
        and record.outcome.measured is not None
        and record.outcome.measured.zero_fraction is not None
    }


def write_front(folder: RunFolder, front: Front, saved: Savings) -> None:
    """Write front.csv and front.json."""
    write_front_csv(front, folder.root / "front.csv")
    write_front_json(front, folder.root / "front.json", stopping=asdict(saved))


def draw_front(folder: RunFolder, front: Front, title: str) -> None:
    """Draw front.png."""
    plot_front(front, folder.root / "front.png", title=title, spreads=read_spreads(folder))


def read_spreads(folder: RunFolder) -> Spreads:
    """What confirmation found about the members, nothing where none was confirmed."""
    found = read_confirmation(folder)
    return Spreads(by_trial=found.spreads, alike=found.alike, metric=found.metric) if found else Spreads(by_trial={})


def write_history(folder: RunFolder, front: Front, records: Sequence[Record], title: str) -> None:
    """Write hypervolume.png: how the front grew over trials and time."""
    _plot_history(front, records, folder.root / "hypervolume.png", title)


def _plot_history(front: Front, records: Sequence[Record], path: Path, title: str) -> None:
    finished = [
        (record.finished_s, _point(record))
        for record in sorted(records, key=lambda record: record.finished_s)
        if record.outcome.measured is not None
    ]
    plot_hypervolume(finished, front, path, title=title)


def _is_here(record: Record) -> bool:
    """Whether a record has figures, and its file if it was trained: another host's may lie there only."""
    return record.outcome.measured is not None and bool(record.model or record.outcome.state != "trained")


def _point(record: Record) -> Point:
    measured = record.outcome.measured
    if measured is None:
        raise ValueError(f"trial {record.trial} was not measured")
    feasible = record.outcome.state == "trained" and record.outcome.reason is None
    return _figures(
        record.trial,
        measured,
        record.model,
        searched=tuple(record.params.items()),
        feasible=feasible,
        stopped=record.outcome.state == "stopped",
        epochs_spent=record.outcome.epochs_spent,
        number_format=record.outcome.number_format,
    )


def _figures(
    trial: int | str,
    measured: Measured,
    model: str,
    *,
    searched: tuple[tuple[str, object], ...] = (),
    feasible: bool = True,
    stopped: bool = False,
    epochs_spent: int | None = None,
    number_format: str = "float32",
) -> Point:
    return Point(
        trial=trial,
        figures={name: value for name, value in measured.figures.items() if name in METRICS},
        epochs_spent=epochs_spent,
        model=model,
        searched=searched,
        feasible=feasible,
        stopped=stopped,
        float32_latency_ms=measured.float32_latency_ms,
        number_format=number_format,
    )


def draw(folder: RunFolder, out: Path | None) -> list[Path]:
    """Draw the front to `out` (by default front.png) and its history beside it; return both paths."""
    front, records, title = read_front(folder), read_records(folder), folder.spec().name
    picture = out or folder.root / "front.png"
    history = picture.with_name(
        f"hypervolume{picture.suffix}" if out is None else f"{picture.stem}-hypervolume{picture.suffix}"
    )
    plot_front(front, picture, title=title, spreads=read_spreads(folder))
    _plot_history(front, records, history, title)
    return [picture, history]
