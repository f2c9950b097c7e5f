"""Several tasks of texts: columns of one file, or files of their own, with one vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nas_compress.callbacks import Notice
from nas_compress.data.assemble import Parts
from nas_compress.data.several_tasks.named_labels import draw_validation
from nas_compress.data.several_tasks.parts import Labels, TaskChoice, several_parts
from nas_compress.data.text.parts import Texts, TextSettings, text_parts
from nas_compress.data.text.tables import TextFiles, read_texts
from nas_compress.errors import refusal


def text_tasks(
    files: TextFiles,
    choices: Sequence[TaskChoice],
    *,
    settings: TextSettings,
    unlabelled: Sequence[str] = (),
    base: Path | None,
    seed: int,
    where: str,
    notice: Notice,
) -> Parts:
    """Return several tasks of texts. A task without files of its own reads a column of `files`.

    Texts of several files are samples of one data set, each with the labels of its own tasks. The word pieces are those
    of all training texts. unlabelled: texts of no task. base: first folder of relative paths. where: the study file's
    key, for errors.
    """
    samples: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    labels: dict[str, dict[str, Labels]] = {}
    for own, members in _by_files(files, choices):
        if own.test_share is not None and len(members) > 1:
            names = ", ".join(choice.name for choice in members)
            raise refusal(f"test_share needs one task for each file, but got {names} of {own.path}", where)
        tables = _read(own, members, base=base, seed=seed, where=where)
        for split, texts in samples.items():
            if split not in tables[0]:
                continue
            rows = np.arange(len(texts), len(texts) + len(tables[0][split][0]))
            texts.extend(tables[0][split][0])
            for choice, table in zip(members, tables, strict=True):
                labels.setdefault(choice.name, {})[split] = Labels(rows=rows, values=table[split][1])
    parts = text_parts(
        name=files.path,
        # the tasks' own targets follow
        splits={split: (texts, np.arange(len(texts), dtype=np.float64)) for split, texts in samples.items() if texts},
        settings=settings,
        unlabelled=unlabelled,
        kind="regression",
        seed=seed,
        where=where,
        notice=notice,
    )
    return several_parts(parts, labels, [replace(choice, labels=choice.name) for choice in choices], where=where)


def _by_files(files: TextFiles, choices: Sequence[TaskChoice]) -> list[tuple[TextFiles, list[TaskChoice]]]:
    """Return the tasks of each file or folder."""
    found: list[tuple[TextFiles, list[TaskChoice]]] = []
    for choice in choices:
        own = choice.texts or files
        known = next((members for each, members in found if (each.path, each.text) == (own.path, own.text)), None)
        if known is None:
            found.append((own, [choice]))
        else:
            known.append(choice)
    return found


def _read(
    files: TextFiles, members: Sequence[TaskChoice], *, base: Path | None, seed: int, where: str
) -> list[dict[str, Texts]]:
    """Return the splits of the tasks of one file or folder, with the same texts for each task.

    A missing validation split is drawn from train, with the share of each class of the first task that has classes.
    """
    tables = [
        read_texts(
            replace(files, label=choice.labels),
            base=base,
            numbers=choice.kind == "regression",
            seed=seed,
            where=_place(choice, where),
        )
        for choice in members
    ]
    if "validation" not in tables[0]:
        validation, train = draw_validation([table["train"][1] for table in tables], seed=seed)
        for table in tables:
            texts, values = table["train"]
            table["validation"] = ([texts[number] for number in validation], values[validation])
            table["train"] = ([texts[number] for number in train], values[train])
    return tables


def _place(choice: TaskChoice, where: str) -> str:
    """Return the study file's key of a task's texts, for errors."""
    if not where:
        return ""
    study = where.rpartition("data.")[0]
    return f"{where} of tasks.{choice.name}" if choice.texts is None else f"{study}tasks.{choice.name}.text"
