"""The report page: values, template and file."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from nas_compress.data.augment.description import augmentation_words
from nas_compress.devices.table import recorded_caution
from nas_compress.files import json_text, write_text
from nas_compress.plots import scales
from nas_compress.plots.budget_lines import nearest_limit, rule
from nas_compress.plots.panel import Spreads, axis_words, curves, staircase
from nas_compress.plots.pareto import front_picture, pairs
from nas_compress.report.cards import MOST_COMPRESSED, card, confusion, missing_confusion
from nas_compress.report.importance import FEWEST_TRIALS, conditional_parameters, parameter_importances
from nas_compress.report.rows import STANDINGS, standing, table
from nas_compress.runs.confirmation import read_confirmation
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.front import Front
from nas_compress.runs.records import Record, read_records, require_teacher
from nas_compress.runs.results import make_front, read_spreads
from nas_compress.runs.saved_epochs import savings
from nas_compress.runs.versions import several_versions
from nas_compress.values.device_settings import P95
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import METRICS, in_words
from nas_compress.values.outcome import Measured

ASSETS = Path(__file__).parent / "assets"

DIGITS = {"agreement": 4, "latency_spread": 4}
"""Decimals of the other table columns."""

LONGEST_LIST = 100
"""Most trials listed with their reasons; the table has all trials."""


def write_report(folder: RunFolder, out: Path) -> None:
    """Write the report of a run to `out`. Runs without a finished trial have a report too."""
    write_text(out, report_page(folder))


def report_page(folder: RunFolder) -> str:
    """The whole page: HTML with styles, scripts, data and pictures inside."""
    records = read_records(folder)
    spec, about = folder.spec(), folder.about()
    teacher = require_teacher(folder, records)
    front = make_front(spec, folder.chance(), teacher, records)
    columns, rows = table(records, front)
    knee, spreads, cards = front.knee, read_spreads(folder), _cards(folder, records, front)
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": _shown, "words": _words, "whole": "{:,}".format, "percent": "{:.1%}".format}
    return environment.get_template("page.html").render(
        title=spec.name,
        spec=spec,
        augmentation=augmentation_words(spec.data.model_dump()),
        about=about,
        front=front,
        knee=knee,
        budgets=[rule(budget) + f" ({budget.relative})" * bool(budget.relative) for budget in front.budgets],
        metrics=METRICS,
        counts=_counts(records, front),
        cards=cards,
        taught=confusion(teacher),
        missing=_missing(about.get("classes"), cards, teacher),
        importances=parameter_importances(records, spec.objective_list),
        conditional=conditional_parameters(records),
        fewest_trials=FEWEST_TRIALS,
        ended=_ended(records, front),
        savings=str(savings(records, front)),
        longest_list=LONGEST_LIST,
        settings=_settings(spec.model_dump(mode="json")),
        picture=_picture(front, spec.name, spreads),
        confirmation=read_confirmation(folder),
        caution=_caution(about["machine"], records),
        style=(ASSETS / "page.css").read_text(encoding="utf-8"),
        script=(ASSETS / "page.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        several_versions=several_versions(records),
        data=json.loads(
            json_text(
                {
                    "columns": columns,
                    "rows": rows,
                    "panels": _panels(front),
                    "axes": {o.name: _axis(front, o.name) for o in front.objectives},
                    "digits": DIGITS
                    | {name: METRICS[name].digits for name in front.figure_names if METRICS[name].digits},
                    "teacher": _teacher(front),
                    "knee": (knee.trial if knee.exit_point is None else knee.label) if knee else None,
                    "spreads": {"metric": spreads.metric, "by_trial": list(spreads.by_trial.items())},
                }
            )
        ),
    )


def _caution(machine: Mapping[str, Any], records: Sequence[Record]) -> str:
    """The caution about integer kernels on the machine of the run."""
    if all(record.outcome.candidate.precision.activation_bits != 8 for record in records):
        return ""
    return recorded_caution(machine)


def _counts(records: Sequence[Record], front: Front) -> dict[str, int]:
    members = {point.trial for point in front.members}
    kinds = [standing(record, members) for record in records]
    return {kind: kinds.count(kind) for kind in STANDINGS if kind in kinds}


def _cards(folder: RunFolder, records: Sequence[Record], front: Front) -> list[dict[str, Any]]:
    by_trial = {record.trial: record for record in records}
    knee = front.knee
    members = {point.trial: point for point in reversed(front.members)}  # a card for each network, at its first point
    shown = [point for point in front.members if members[point.trial] is point]
    first = sorted(shown, key=lambda point: point is not knee)
    coded = {point.trial for point in first[:MOST_COMPRESSED]}
    return [card(folder, by_trial[int(p.trial)], p, coded=p.trial in coded) for p in shown]


def _missing(classes: int | None, cards: Sequence[Mapping[str, Any]], teacher: Measured | None) -> str:
    """Give the reason for missing confusion matrices of members and teacher, empty if there are all."""
    without = [f"trial {card['trial']}" for card in cards if card["confusion"] is None]
    if teacher is not None and confusion(teacher) is None:
        without.append("the teacher")
    return missing_confusion(classes, without)


def _ended(records: Sequence[Record], front: Front) -> dict[str, list[Record]]:
    """The trials outside the competition for the front, by standing."""
    members = {point.trial for point in front.members}
    kinds: dict[str, list[Record]] = {"over budget": [], "stopped": [], "failed": []}
    for record in records:
        kind = standing(record, members)
        if kind in kinds:
            kinds[kind].append(record)
    return kinds


def _panels(front: Front) -> list[dict[str, Any]]:
    """Both metrics of each panel and the corners of its staircase. A single objective is drawn over trials."""
    if len(front.objectives) == 1:
        return [{"x": "trial", "y": front.objectives[0].name, "stairs": [], "curves": []}]
    made = []
    for x, y in pairs(front):
        right = nearest_limit(front, x, scales.limits(front, x))
        worst = nearest_limit(front, y, scales.limits(front, y))
        stairs = staircase(front.members, x, y, right, worst).tolist()
        joined = [[(p.figure(x), p.figure(y), _tail(p, x)) for p in points] for points in curves(front, x, y)]
        made.append({"x": x, "y": y, "stairs": stairs, "curves": joined})
    return made


def _tail(point: Point, x: str) -> float | None:
    """The 95th percentile of the latency on an axis of the mean latency."""
    tail = point.figures.get(P95)
    return tail if x == "latency_ms" else None


def _axis(front: Front, name: str) -> dict[str, Any]:
    low, high = scales.limits(front, name)
    limits = [budget.limit for budget in front.budgets if budget.name == name]
    metric = METRICS[name]
    log = metric.log_scale
    ticks = scales.log_ticks(low, high) if log else []
    return {
        "words": axis_words(name, front.conditions_of(name)),
        "rule": "at_least" if metric.direction == "maximize" else "at_most",
        "log": log,
        "percent": metric.notation == "percent",
        "range": [math.log10(low), math.log10(high)] if log else [low, high],
        "ticks": ticks,
        "labels": [scales.tick(name, place) for place in ticks],
        "budgets": limits,
    }


def _shown(name: str, value: float | None) -> str:
    return "" if value is None else METRICS[name].shown(value)


def _words(figures: Mapping[str, float]) -> str:
    return in_words(figures, METRICS)


def _teacher(front: Front) -> Mapping[str, float] | None:
    if front.teacher is None:
        return None
    return {objective.name: front.teacher.figure(objective.name) for objective in front.objectives}


def _picture(front: Front, title: str, spreads: Spreads) -> str:
    """The static picture as a data URL, for print and for browsers without scripts."""
    png = front_picture(front, title=title, spreads=spreads).png()
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _settings(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted keys and their values, without unset ones."""
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _settings(value, f"{prefix}{key}.")
        elif value is not None:
            found.append((f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return found
