"""The command `check`: forecast the cost of a study and the feasibility of its budgets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import click

from nas_compress.cli.run import workers_option
from nas_compress.cli.terminal import print_line

if TYPE_CHECKING:
    from nas_compress.config.schema import StudySpec
    from nas_compress.search.preflight.budget_coverage import Share
    from nas_compress.search.preflight.forecast import Forecast
    from nas_compress.values.outcome import Measured


LONG_ANSWERS_S = 10.0
"""Seconds of the teacher's answers from which they are named."""


@click.command()
@click.argument("study")
@workers_option
def check(study: str, workers: int | Literal["auto"]) -> None:
    """Forecast the cost and the budgets of a study; saves nothing.

    Exports, times and trains a small, a middle and a large candidate for a few batches.

    Example: nas-compress check studies/fashion-mnist
    """
    from nas_compress.cli.progress_bar import reading_shown
    from nas_compress.config.study_file import read_study
    from nas_compress.config.user_code_files import named_code
    from nas_compress.search.preflight.cut_notes import cut_notes
    from nas_compress.search.preflight.feasibility import refuse_out_of_reach
    from nas_compress.search.preflight.float_weights import float_weights_note
    from nas_compress.search.preflight.forecast import duration_in_words, forecast
    from nas_compress.search.preflight.unlabelled_notes import label_notes
    from nas_compress.search.preflight.warnings import notes
    from nas_compress.search.setup import gather
    from nas_compress.search.workers.count import worker_count

    file = read_study(study)
    for code in named_code(file):
        print_line(str(code), err=True)
    with reading_shown() as progress:
        parts = gather(file, progress=progress, notice=lambda line: print_line(line, err=True))
    data, spec = parts.dataset, parts.spec
    count = worker_count(workers, trials=spec.trials, dataset=data, device=parts.device.type)
    found = forecast(parts, lambda line: print_line(line, err=True), workers=count)
    print_line(
        f"{spec.name}: {_points(found.points)} in space {parts.space.name}; {data.name} with {len(data.train):,} "
        f"training, {len(data.validation):,} validation and {len(data.test):,} held-out samples; on {parts.device}"
    )
    if parts.target.settings.conditions:
        print_line(f"latency: {parts.target.settings.conditions}")
    for name, words in spec.device_conditions:
        print_line(f"latency on {name}: {words}")
    _print_candidates(found)
    for note in notes(
        [item.candidate for item in found.sized],
        classes=data.task.classes,
        target=parts.target,
        longest=data.longest,
    ):
        print_line(f"note: {note}")
    for note in [*cut_notes(parts, found.sized), *label_notes(parts, found.sized)]:
        print_line(f"note: {note}")
    floats = float_weights_note(parts, found.sized)
    if floats is not None:
        print_line(f"warning: {floats}")
    if spec.budgets:
        _print_budgets(found, spec)
    once = "given" if found.teacher is None else f"teacher {duration_in_words(found.teacher_s)} unless trained before"
    if found.answers_s >= LONG_ANSWERS_S:
        once += f", its answers {duration_in_words(found.answers_s)}"
    trials, by = f"{spec.trials} trial{'s' if spec.trials > 1 else ''}", f"{count} worker{'s' if count > 1 else ''}"
    print_line(
        f"expected: {duration_in_words(found.study_s)} for {trials} by {by} ({once}, "
        f"then {duration_in_words(found.trial_s)} a trial on average)"
    )
    if found.is_busy:
        print_line(
            f"the machine was busy meanwhile: work took {found.slowdown:.1f} times its processor time; if it stays so, "
            f"the study takes about {duration_in_words(found.study_s * found.slowdown)}"
        )
    refuse_out_of_reach(parts, found.reaches)


def _print_candidates(found: Forecast) -> None:
    """Print the three candidates and the teacher, with units."""
    from nas_compress.cli.tables import rich_table
    from nas_compress.search.preflight.forecast import duration_in_words
    from nas_compress.values.metrics.table import METRICS

    names = [
        name
        for name, metric in METRICS.items()
        if metric.known_before_training and any(not sample.measured.lacks(name) for sample in found.samples)
    ]
    rows = [
        [sample.label, f"W{sample.weight_bits}A{sample.activation_bits}"]
        + [_figure(sample.measured, name) for name in names]
        + [duration_in_words(sample.trial_s)]
        for sample in found.samples
    ]
    if found.teacher is not None:
        figures = [_figure(found.teacher, name) for name in names]
        rows.append(["teacher", "W32A32", *figures, duration_in_words(found.teacher_s)])
    rich_table(["candidate", "bits", *(METRICS[name].label for name in names), "training"], rows)


def _figure(measured: Measured, name: str) -> str:
    from nas_compress.values.metrics.table import METRICS

    return "-" if measured.lacks(name) else METRICS[name].shown(measured.figure(name))


def _print_budgets(found: Forecast, spec: StudySpec) -> None:
    """Print a verdict for each budget, its best candidate, and the share of the space within it."""
    from nas_compress.cli.tables import rich_table
    from nas_compress.plots.budget_lines import rule
    from nas_compress.values.metrics.table import METRICS

    rows = []
    shares = {share.budget.name: share for share in found.shares}
    for reach in found.reaches:
        share = shares.get(reach.budget.name)
        verdict = "within reach" if reach.met else "perhaps, once trained" if reach.possible else "OUT OF REACH"
        rows.append(
            [
                rule(reach.budget),
                verdict,
                reach.budget.metric.shown(reach.best),
                _share(share, found.points) if share else "",
            ]
        )
    known = [budget for budget in spec.budget_list if budget.metric.known_before_training]
    lost = [each for each in known if each.name not in {reach.budget.name for reach in found.reaches}]
    rows += [[rule(budget), f"not measured: {budget.metric.device} is lost", "", ""] for budget in lost]
    later = [budget for budget in spec.budget_list if not budget.metric.known_before_training]
    rows += [[rule(budget), "known after training", "", ""] for budget in later]
    relative = [name for name, section in spec.budgets.items() if section.is_relative]
    rows += [[f"{METRICS[name].label} against the teacher", "known with the teacher", "", ""] for name in relative]
    rich_table(["budget", "verdict", "best found", "share of the space"], rows)


def _share(share: Share, points: float) -> str:
    """Return the share of the space, with its interval unless every point was checked."""
    counted = f"({share.kept} of {share.counted} candidates, {share.how})"
    if share.counted >= points:
        return f"{share.fraction:.0%} {counted}"
    low, high = share.interval
    return f"{share.fraction:.0%}, likely {low:.0%} to {high:.0%} {counted}"


def _points(points: float) -> str:
    if math.isinf(points):
        return "infinitely many points"
    return f"{points:,.0f} points" if points == round(points) else f"about {float(f'{points:.2g}'):,.0f} points"
