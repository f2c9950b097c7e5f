"""Named labels of the data sets that ship, and of a function of the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nas_compress.callbacks import Notice
from nas_compress.data.array_conversion import as_inputs
from nas_compress.data.assemble import Parts, no_samples, strata, subset
from nas_compress.data.several_tasks.named_labels import columns_of, labelled_pairs, require_one_each
from nas_compress.data.several_tasks.parts import Labels, NamedLabels, TaskChoice, several_parts
from nas_compress.data.several_tasks.sequences import sequence_tasks
from nas_compress.data.stratified_split import validation_and_train
from nas_compress.data.targets import read_targets
from nas_compress.data.text.own import VOCABULARY, holds_sequences
from nas_compress.data.text.parts import TextSettings
from nas_compress.data.user_data import call_factory, require_one_shape
from nas_compress.data.user_task_data import require_splits
from nas_compress.errors import refusal
from nas_compress.tasks.classification import LABEL
from nas_compress.user_code import user_callable


def image_tasks(parts: Parts, choices: Sequence[TaskChoice], *, where: str) -> Parts:
    """Return several tasks of labelled images.

    Names of labels: `label`, the class; `parity`, 1 for odd classes; `ink`, the mean of the pixels.
    """
    splits = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    labels: dict[str, dict[str, Labels]] = {"label": {}, "parity": {}, "ink": {}}
    for split, (inputs, targets) in splits.items():
        (images,) = inputs.values()
        classes = targets[LABEL]
        labels["label"][split] = Labels.of_all(classes)
        labels["parity"][split] = Labels.of_all(classes % 2)
        labels["ink"][split] = Labels.of_all(images[:].reshape(len(classes), -1).mean(axis=1, dtype=np.float64))
    return several_parts(parts, labels, choices, where=where)


def factory_tasks(
    factory: str,
    choices: Sequence[TaskChoice],
    *,
    folder: Path | None,
    settings: TextSettings,
    seed: int,
    where: str,
    notice: Notice,
) -> Parts:
    """Return several tasks of a function's splits `(inputs, {name: labels})`; see `read_factory`.

    settings: of texts. notice: see `own_sequences`.
    """
    with user_callable(factory, folder=folder, where=where) as function:
        returned = call_factory(function, factory, where)
        require_splits(returned, where, further=("unlabelled", VOCABULARY))
        if holds_sequences(returned):
            return sequence_tasks(
                returned, choices, name=factory, settings=settings, seed=seed, where=where, notice=notice
            )
        if settings != TextSettings():
            raise refusal(f"vocabulary and max_tokens are for texts and token ids, but {factory} returns none", where)
        pairs = {
            split: (as_inputs(inputs, split, where), labels)
            for split, (inputs, labels) in labelled_pairs(returned, where).items()
        }
        unlabelled = as_inputs(returned["unlabelled"], "unlabelled", where) if "unlabelled" in returned else None
    require_one_shape({split: inputs for split, (inputs, _) in pairs.items()}, where)
    for split, (values, targets) in pairs.items():
        require_one_each(split, len(next(iter(values.values()))), targets, where)
    inputs, columns = pairs["train"][0], columns_of({split: targets for split, (_, targets) in pairs.items()}, where)
    first_labels = columns.get(choices[0].labels, next(iter(columns.values())))
    first = read_targets(choices[0].kind, inputs, first_labels, where=where)
    samples = {split: (values, first.splits[split]) for split, (values, _) in pairs.items()}
    if "validation" not in samples:
        validation, train = validation_and_train(strata(first.task, samples["train"]), seed=seed)
        for name, column in columns.items():
            columns[name] = column | {"validation": column["train"][validation], "train": column["train"][train]}
        samples |= {"validation": subset(samples["train"], validation), "train": subset(samples["train"], train)}
    parts = Parts(
        name=factory,
        task=first.task,
        train=samples["train"],
        validation=samples["validation"],
        test=samples.get("test") or no_samples(samples["train"]),
        numeric=tuple(inputs),
        unlabelled=unlabelled,
    )
    labels: NamedLabels = {
        name: {split: Labels.of_all(values) for split, values in column.items()} for name, column in columns.items()
    }
    return several_parts(parts, labels, choices, where=where)
