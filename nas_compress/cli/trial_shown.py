"""One trained trial on stdout: its figures, what was searched, its speed beside float32, its bytes step by step."""

from __future__ import annotations

import json

import click

from nas_compress.cli.tables import print_table
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record
from nas_compress.runs.results import byte_steps
from nas_compress.runs.speed_notes import NOT_COMPARED, speed_notes
from nas_compress.values.metrics import METRICS
from nas_compress.values.outcome import Measured


def print_trial(folder: RunFolder, record: Record, *, as_json: bool = False) -> None:
    """What is known of one trained trial, for people or as one JSON object."""
    measured, steps = record.outcome.measured, byte_steps(folder, record)
    if as_json:
        outcome = record.outcome
        known = {"trial": record.trial, "params": dict(record.params), "candidate": outcome.candidate.to_dict()}
        known["number_format"] = outcome.number_format
        figures = {} if measured is None else measured.to_dict()
        click.echo(json.dumps(known | {"measured": figures, "bytes": dict(steps), "model": record.model}, indent=2))
        return
    click.echo(f"trial {record.trial}, {record.model}, {record.outcome.number_format}")
    click.echo(", ".join(f"{name} {value}" for name, value in record.params.items()))
    if measured is not None:
        click.echo(_figures(measured))
        notes = [note for note in speed_notes([record], [record.trial]) if note != NOT_COMPARED]
        if measured.float32_latency_ms is not None and not notes:
            notes = ["as fast as its float32 form, or faster"]
        for note in notes:
            click.echo(note)
    if steps:
        click.echo()
        rows = [[name, f"{size:,}", f"{steps[0][1] / size:.1f}"] for name, size in steps]
        print_table(["bytes, step by step", "bytes", "times smaller"], rows)


def _figures(measured: Measured) -> str:
    known = [METRICS[name] for name in METRICS if name in measured.figures]
    words = [f"{metric.label} {metric.cell(measured.figures[metric.name])} {metric.unit}".strip() for metric in known]
    float32 = measured.float32_latency_ms
    return ", ".join(words) + ("" if float32 is None else f" ({float32:.4f} ms in float32)")
