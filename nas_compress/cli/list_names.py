"""`nas-compress list`: names for study files and search spaces."""

from __future__ import annotations

import click

KINDS = (
    "families",
    "spaces",
    "losses",
    "teaching",
    "pruning",
    "quantization",
    "samplers",
    "stopping",
    "data",
    "tasks",
    "metrics",
    "devices",
    "studies",
)


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def list_command(kind: str, as_json: bool) -> None:
    """List the names of one kind, such as losses or metrics.

    Example: nas-compress list losses
    """
    from nas_compress.cli.tables import print_table
    from nas_compress.files import json_text
    from nas_compress.search.listed_names import catalogue

    rows = catalogue(kind)
    if as_json:
        click.echo(json_text(rows))
        return
    header = list(rows[0])
    print_table(header, [[str(row[name]) for name in header] for row in rows])
