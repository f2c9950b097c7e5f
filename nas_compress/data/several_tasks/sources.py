"""Named labels of the data sets that ship, and of a function of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nas_compress.data.array_conversion import as_inputs, as_targets
from nas_compress.data.assemble import Parts, no_samples, strata, subset
from nas_compress.data.several_tasks.parts import Labels, NamedLabels, TaskChoice, several_parts
from nas_compress.data.stratified_split import validation_and_train
from nas_compress.data.targets import read_targets
from nas_compress.data.user_data import call_factory, require_one_shape
from nas_compress.data.user_task_data import SPLITS, require_splits
from nas_compress.errors import refusal
from nas_compress.tasks.batch import InputRows
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


def factory_tasks(factory: str, choices: Sequence[TaskChoice], *, folder: Path | None, seed: int, where: str) -> Parts:
    """Return several tasks of a function's splits `(inputs, {name: labels})`; see `read_factory`."""
    with user_callable(factory, folder=folder, where=where) as function:
        returned = call_factory(function, factory, where)
        require_splits(returned, where, further=("unlabelled",))
        pairs = {split: _pair(returned[split], split, where) for split in SPLITS if split in returned}
        unlabelled = as_inputs(returned["unlabelled"], "unlabelled", where) if "unlabelled" in returned else None
    require_one_shape({split: inputs for split, (inputs, _) in pairs.items()}, where)
    names = list(pairs["train"][1])
    for split, (_, targets) in pairs.items():
        if list(targets) != names:
            rule = f"labels must be {', '.join(names)} in every split"
            raise refusal(f"{rule}, but got {', '.join(targets)} in {split}", where)
    inputs = pairs["train"][0]
    columns = {name: {split: targets[name] for split, (_, targets) in pairs.items()} for name in names}
    first = read_targets(choices[0].kind, inputs, columns.get(choices[0].labels, columns[names[0]]), where=where)
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


def _pair(value: object, split: str, where: str) -> tuple[InputRows, dict[str, np.ndarray]]:
    if not isinstance(value, tuple | list) or len(value) != 2 or not isinstance(value[1], Mapping) or not value[1]:
        raise refusal(
            f"{split} must be a pair (inputs, {{name: labels}}) for several tasks, but got {type(value).__name__}",
            where,
        )
    inputs = as_inputs(value[0], split, where)
    targets = {str(name): as_targets(each, split, where) for name, each in value[1].items()}
    count = len(next(iter(inputs.values())))
    for name, labels in targets.items():
        if len(labels) != count:
            raise refusal(f"{split} must have one {name} for each of {count} inputs, but got {len(labels)}", where)
    return inputs, targets
