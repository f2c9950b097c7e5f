"""Functions that receive the progress and the notices of long steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Receives the name of a stage, the number of its finished steps and the number of all its steps."""

Notice: TypeAlias = Callable[[str], None]
"""Receives a line for the user, such as the name of a damaged file that is made again."""


def no_progress(stage: str, done: int, count: int) -> None:
    """Show nothing."""


def no_notice(line: str) -> None:
    """Show nothing."""
