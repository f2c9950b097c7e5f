"""The options that choose front members, the same for every command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])

best_option: Callable[[Command], Command] = click.option(
    "--best",
    multiple=True,
    metavar="FIGURE",
    help="The front member that is best in this figure; may be given several times.",
)

where_option: Callable[[Command], Command] = click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="Only members that keep it, such as 'accuracy>=0.9'; may be given several times.",
)

all_option: Callable[[Command], Command] = click.option(
    "--all", "everything", is_flag=True, help="Every front member (that keeps the conditions)."
)
