"""Several tasks of texts or token ids from a function of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas_compress.callbacks import Notice
from nas_compress.data.array_conversion import kind_of
from nas_compress.data.assemble import Parts
from nas_compress.data.several_tasks.named_labels import columns_of, draw_validation, labelled_pairs, require_one_each
from nas_compress.data.several_tasks.parts import Labels, TaskChoice, several_parts
from nas_compress.data.text.own import own_sequences
from nas_compress.data.text.parts import TextSettings
from nas_compress.errors import refusal


def sequence_tasks(
    returned: Mapping[object, object],
    choices: Sequence[TaskChoice],
    *,
    name: str,
    settings: TextSettings,
    seed: int,
    where: str,
    notice: Notice,
) -> Parts:
    """Return several tasks of texts or token ids; the arguments are those of `own_sequences`.

    A missing validation split is drawn from train, with the share of each class of the first task that has classes.
    """
    pairs = labelled_pairs(returned, where)
    for split, (samples, targets) in pairs.items():
        if not hasattr(samples, "__len__"):
            rule = f"{split} must have a list of texts, or token ids (N, T)"
            raise refusal(f"{rule}, but got {kind_of(samples)}", where)
        require_one_each(split, len(samples), targets, where)
    columns = columns_of({split: targets for split, (_, targets) in pairs.items()}, where)
    samples = {split: inputs for split, (inputs, _) in pairs.items()}
    if "validation" not in samples:
        validation, train = draw_validation([column["train"] for column in columns.values()], seed=seed)
        for column in columns.values():
            column |= {"validation": column["train"][validation], "train": column["train"][train]}
        given = samples["train"]
        samples |= {"validation": _rows(given, validation), "train": _rows(given, train)}
    # the tasks' own targets follow
    blank = {split: (inputs, np.arange(len(inputs), dtype=np.float64)) for split, inputs in samples.items()}
    parts = own_sequences(
        {**returned, **blank},
        name=name,
        settings=settings,
        kind="regression",
        groups=None,
        seed=seed,
        where=where,
        notice=notice,
    )
    labels = {
        label: {split: Labels.of_all(values) for split, values in column.items()} for label, column in columns.items()
    }
    return several_parts(parts, labels, choices, where=where)


def _rows(samples: Any, index: Sequence[int] | np.ndarray) -> Any:
    """Return some samples of an array, or of a list of texts or ids."""
    return samples[index] if isinstance(samples, np.ndarray) else [samples[int(number)] for number in index]
