"""The command `dashboard`: show a run in the browser with optuna-dashboard."""

from __future__ import annotations

import click

from nas_compress.cli.opened_run import opened_run
from nas_compress.cli.terminal import print_line


@click.command()
@click.argument("run")
@click.option(
    "--storage",
    metavar="URL",
    envvar="NAS_COMPRESS_STORAGE",
    help="Optuna storage URL of a run with --storage; default: the environment variable NAS_COMPRESS_STORAGE.",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 picks a free port.")
def dashboard(run: str, storage: str | None, host: str, port: int) -> None:
    """Show a run with optuna-dashboard until Ctrl-C.

    Trials over budget appear as infeasible. Each trial has its model, outcome, learning curve and a picture of its
    place among the others. New trials appear automatically.

    Example: nas-compress dashboard digits --port 8080
    """
    from contextlib import suppress

    from nas_compress.dashboard.server import dashboard_server

    with dashboard_server(opened_run(run), storage, host=host, port=port) as server, suppress(KeyboardInterrupt):
        print_line(f"http://{host}:{server.server_port}/", err=True)
        server.serve_forever()
