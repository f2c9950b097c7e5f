"""`[tasks.NAME]`: several tasks of one network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from nas_compress.config.section import Section


class TaskSection(Section):
    """`[tasks.NAME]`: one of several tasks on the inputs of `[data]`.

    metric: its primary metric, such as `accuracy`; figures are called `accuracy@NAME`.
    labels: name of its labels in the data, by default NAME: a key of the mapping that a function returns in place of
    labels, or `label`, `parity` or `ink` of built-in images.
    text, text_column: files of texts of its own and their columns, as in `[data]`; all tasks have one vocabulary.
    `labels` is then the column of the labels.
    kind: of the labels, by default the one that follows from them.
    """

    metric: str = Field(min_length=1)
    labels: str | None = None
    text: str | None = None
    text_column: str | int | tuple[str | int, ...] | None = None
    kind: Literal["classification", "multi_label", "regression"] | None = None

    @property
    def text_columns(self) -> tuple[str | int, ...]:
        """Columns of the text in its own files."""
        given = "text" if self.text_column is None else self.text_column
        return given if isinstance(given, tuple) else (given,)


def _own_names(sections: Mapping[str, TaskSection]) -> Mapping[str, TaskSection]:
    for name in sections:
        if not name.isidentifier() or name != name.lower():
            raise ValueError(f"a task must have a name of small letters, digits and _, but got {name!r}")
    return sections


TaskSections: TypeAlias = Annotated[dict[str, TaskSection], AfterValidator(_own_names)]
"""The tasks by name, in the order of the outputs."""
