"""`nas-compress check`: what a study will cost and whether its budgets can be met, before anything is trained."""

from __future__ import annotations

import math

import click


@click.command()
@click.argument("study")
def check(study: str) -> None:
    """Forecast the cost and the budgets of a study; nothing is kept.

    A small, a middle and a large candidate are exported, timed and trained for a few batches.

    Example: nas-compress check studies/fashion-mnist
    """
    from nas_compress.cli.tables import print_table
    from nas_compress.spec.study_file import read_study
    from nas_compress.study.feasibility import refuse_out_of_reach
    from nas_compress.study.forecast import forecast
    from nas_compress.study.workbench import gather

    parts = gather(read_study(study))
    told = forecast(parts)
    data, spec = parts.dataset, parts.spec
    click.echo(
        f"{spec.name}: {_points(told.points)} in space {parts.space.name}; {data.name} with {len(data.train):,} "
        f"training, {len(data.validation):,} validation and {len(data.test):,} held-out samples; on {parts.device}"
    )
    header = ["candidate", "bits", "parameters", "macs", "size_bytes", "latency_ms", "seconds per trial"]
    print_table(
        header,
        [
            [
                sample.label,
                f"W{sample.weight_bits}A{sample.activation_bits}",
                f"{sample.measured.parameters:,}",
                f"{sample.measured.macs:,}",
                f"{sample.measured.size_bytes:,}",
                f"{sample.measured.latency_ms:.4f}",
                f"{sample.trial_s:.1f}",
            ]
            for sample in told.samples
        ],
    )
    for reach in told.reaches:
        known = "within reach" if reach.met else "OUT OF REACH"
        click.echo(f"budget {reach.budget}: {known} (smallest found: {reach.best:,.4g})")
    if told.fitting is not None:
        click.echo(f"the weights alone of {told.fitting:.0%} of {len(told.sized)} sampled candidates fit size_bytes")
    if "accuracy" in spec.budgets:
        click.echo(f"budget accuracy >= {spec.budgets['accuracy'].at_least:g}: known after training only")
    click.echo(f"teacher: {_duration(told.teacher_s)}, if it was not trained before")
    click.echo(f"expected: {_duration(told.study_s)} for {spec.trials} trials and the teacher")
    refuse_out_of_reach(parts, told.reaches)


def _points(points: float) -> str:
    if math.isinf(points):
        return "infinitely many points"
    return f"{points:,.0f} points" if points == round(points) else f"about {float(f'{points:.2g}'):,.0f} points"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
