"""`nas-compress check`: what a study will cost and whether its budgets can be met, before anything is trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nas_compress.config.schema import StudySpec
    from nas_compress.search.preflight.budget_coverage import Share
    from nas_compress.search.preflight.forecast import Forecast


@click.command()
@click.argument("study")
def check(study: str) -> None:
    """Forecast the cost and the budgets of a study; nothing is kept.

    A small, a middle and a large candidate are exported, timed and trained for a few batches.

    Example: nas-compress check studies/fashion-mnist
    """
    from nas_compress.config.study_file import read_study
    from nas_compress.search.preflight.feasibility import refuse_out_of_reach
    from nas_compress.search.preflight.forecast import forecast
    from nas_compress.search.preflight.warnings import notes
    from nas_compress.search.setup import gather

    parts = gather(read_study(study))
    told = forecast(parts)
    data, spec = parts.dataset, parts.spec
    click.echo(
        f"{spec.name}: {_points(told.points)} in space {parts.space.name}; {data.name} with {len(data.train):,} "
        f"training, {len(data.validation):,} validation and {len(data.test):,} held-out samples; on {parts.device}"
    )
    _print_candidates(told)
    for note in notes([item.candidate for item in told.sized], classes=data.classes, target=parts.target):
        click.echo(f"note: {note}")
    if spec.budgets:
        _print_budgets(told, spec)
    once = "brought along" if told.teacher is None else f"teacher {_duration(told.teacher_s)} unless trained before"
    click.echo(
        f"expected: {_duration(told.study_s)} for {spec.trials} trials ({once}, "
        f"then {_duration(told.trial_s)} a trial on average)"
    )
    refuse_out_of_reach(parts, told.reaches)


def _print_candidates(told: Forecast) -> None:
    """The three candidates and the teacher, in units for people."""
    from nas_compress.cli.tables import rich_table
    from nas_compress.plots.scales import shown

    names = ("parameters", "macs", "size_bytes", "latency_ms")
    rows = [
        [sample.label, f"W{sample.weight_bits}A{sample.activation_bits}"]
        + [shown(name, sample.measured.figure(name)) for name in names]
        + [_duration(sample.trial_s)]
        for sample in told.samples
    ]
    if told.teacher is not None:
        figures = [shown(name, told.teacher.figure(name)) for name in names]
        rows.append(["teacher", "W32A32", *figures, _duration(told.teacher_s)])
    rich_table(["candidate", "bits", "parameters", "multiply-adds", "file", "latency", "training"], rows)


def _print_budgets(told: Forecast, spec: StudySpec) -> None:
    """Each budget: whether it can be met, by what, and by how much of the space."""
    from nas_compress.cli.tables import rich_table
    from nas_compress.plots.budget_lines import rule
    from nas_compress.plots.scales import shown

    rows = []
    for reach, share in zip(told.reaches, told.shares, strict=True):
        verdict = "within reach" if reach.met else "perhaps, once trained" if reach.possible else "OUT OF REACH"
        rows.append([rule(reach.budget), verdict, shown(reach.budget.name, reach.best), _share(share, told.points)])
    rows += [[rule(budget), "known after training", "", ""] for budget in spec.budget_list if budget.name == "accuracy"]
    rich_table(["budget", "verdict", "best found", "share of the space"], rows)


def _share(share: Share, points: float) -> str:
    """The share of the space; its interval too, unless every point was judged."""
    judged = f"({share.kept} of {share.judged} candidates, {share.how})"
    if share.judged >= points:
        return f"{share.fraction:.0%} {judged}"
    low, high = share.interval
    return f"{share.fraction:.0%}, likely {low:.0%} to {high:.0%} {judged}"


def _points(points: float) -> str:
    if math.isinf(points):
        return "infinitely many points"
    return f"{points:,.0f} points" if points == round(points) else f"about {float(f'{points:.2g}'):,.0f} points"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
