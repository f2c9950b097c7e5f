"""Data from a function of the user: call it, check its splits, and convert them to arrays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset

from nas_compress.callbacks import Notice, Progress, no_progress
from nas_compress.data.array_conversion import as_input, as_inputs, as_targets, kind_of
from nas_compress.data.assemble import Parts, Samples, no_samples, strata, subset
from nas_compress.data.stratified_split import validation_and_train, validation_and_train_of_groups
from nas_compress.data.targets import Kind, read_targets, require_drawn
from nas_compress.data.text.own import VOCABULARY, holds_sequences, own_sequences
from nas_compress.data.text.parts import UNLABELLED, TextSettings
from nas_compress.data.torch_dataset import Origin, class_names_of, is_dataset, read_dataset
from nas_compress.data.user_task_data import SPLITS, require_splits, task_parts
from nas_compress.errors import RequestError, describe, refusal, require_known
from nas_compress.tasks.batch import InputRows
from nas_compress.tasks.classification import Classification
from nas_compress.tasks.memory_map import Rows
from nas_compress.tasks.task import Task
from nas_compress.user_code import user_callable
from nas_compress.values.file_constants import INPUT_NAME

_log = logging.getLogger(__name__)


def read_factory(
    factory: str,
    *,
    folder: Path | None,
    seed: int,
    kind: Kind | None = None,
    text_settings: TextSettings | None = None,
    where: str,
    progress: Progress = no_progress,
    notice: Notice = _log.warning,
) -> Parts:
    """Call `module:callable` without arguments and check the splits that it returns.

    folder: first place on sys.path during the call. kind: the study's task, None for the one that follows from the
    targets. text_settings: of texts. progress, notice: of data sets that are read into a store. A mapping with `task`
    holds named tensors of a task of the user, see `task_parts`; one with texts or token ids see `own_sequences`.
    RequestError describes the first mistake in one line.
    """
    with user_callable(factory, folder=folder, where=where) as function:
        returned = call_factory(function, factory, where)
        if "task" in returned:
            return task_parts(returned, name=factory, seed=seed, where=where)
        require_splits(returned, where, further=("groups", UNLABELLED, VOCABULARY))
        if holds_sequences(returned):
            counts = {split: _samples(returned[split]) for split in SPLITS if split in returned}
            return own_sequences(
                returned,
                name=factory,
                settings=text_settings or TextSettings(),
                kind=kind,
                groups=_groups(returned.get("groups"), counts, where),
                seed=seed,
                where=where,
                notice=notice,
            )
        if text_settings not in (None, TextSettings()):
            raise refusal(f"vocabulary and max_tokens are for texts and token ids, but {factory} returns none", where)
        splits = {
            name: _pair(
                returned[name],
                Origin(factory=factory, folder=folder, split=name, where=where),
                progress=progress,
                notice=notice,
            )
            for name in SPLITS
            if name in returned
        }
        names = class_names_of(returned["train"]) if is_dataset(returned["train"]) else ()
        further = as_inputs(returned[UNLABELLED], UNLABELLED, where) if UNLABELLED in returned else None
    inputs = {split: values for split, (values, _) in splits.items()}
    require_one_shape(inputs, where)
    found = read_targets(kind, inputs["train"], {split: targets for split, (_, targets) in splits.items()}, where=where)
    samples = {split: (inputs[split], found.splits[split]) for split in splits}
    groups = _groups(returned.get("groups"), {name: len(_first(each)) for name, each in samples.items()}, where)
    if "validation" not in samples:
        labels = strata(found.task, samples["train"])
        try:
            validation, train = (
                validation_and_train(labels, seed=seed)
                if groups is None
                else validation_and_train_of_groups(labels, groups["train"], seed=seed)
            )
        except RequestError as error:
            raise refusal(str(error), where) from error
        samples |= {"validation": subset(samples["train"], validation), "train": subset(samples["train"], train)}
        require_drawn({split: targets for split, (_, targets) in samples.items()}, where)
    return Parts(
        name=factory,
        task=_named(found.task, names),
        train=samples["train"],
        validation=samples["validation"],
        test=samples.get("test") or no_samples(samples["train"]),
        numeric=tuple(inputs["train"]),
        unlabelled=further,
    )


def _named(task: Task, names: tuple[str, ...]) -> Task:
    """Return a classification with the names of its classes, if their number is right."""
    if isinstance(task, Classification) and not task.class_names and len(names) == task.classes:
        return replace(task, class_names=names)
    return task


def _groups(value: object, lengths: Mapping[str, int], where: str) -> dict[str, NDArray[Any]] | None:
    """Return the group of each sample by split, None if there are none; refuse a group in two splits.

    value: an array for train, or a mapping from splits to arrays. lengths: samples of each split.
    """
    if value is None:
        return None
    by_split = value if isinstance(value, Mapping) else {"train": value}
    lacking = [split for split in lengths if split not in by_split]
    if "train" in lacking or ("validation" in lengths and lacking):
        example = ", ".join(f'"{split}": ...' for split in lengths)
        rule = "groups must be given for each split, because one may be in two"
        raise refusal(f"{rule}, but there are none for {' and '.join(lacking)}; return {{{example}}}", where)
    for split in by_split:
        require_known("a split of groups", str(split), tuple(lengths), where)
    groups = {split: _group_of_each(by_split[split], split, lengths[split], where) for split in by_split}
    for first, second in combinations(groups, 2):
        both = np.intersect1d(groups[first].astype(str), groups[second].astype(str))
        if len(both):
            rule = "a group must be in one split"
            raise refusal(f"{rule}, but group {both[0]} is in {first} and {second} ({len(both)} such groups)", where)
    return groups


def _group_of_each(value: object, split: str, samples: int, where: str) -> NDArray[Any]:
    groups = np.asarray(value)
    if groups.shape != (samples,) or groups.dtype.kind not in "iubUSO":
        rule = f"groups must be {samples} numbers or words, one for each sample of {split}"
        raise refusal(f"{rule}, but got {groups.dtype} {groups.shape}", where)
    return groups.astype(str) if groups.dtype.kind == "O" else groups


def _samples(pair: object) -> int:
    """Return the number of samples of a pair; 0 for other values, which are refused later."""
    return len(pair[0]) if isinstance(pair, tuple | list) and len(pair) == 2 else 0


def _first(samples: Samples) -> Rows:
    return next(iter(samples[0].values()))


def call_factory(function: Callable[[], object], factory: str, where: str) -> Mapping[object, object]:
    """Return the mapping of a user's function; RequestError if it raises an error or returns something else."""
    try:
        returned = function()
    except Exception as error:
        raise refusal(f"{factory}() must return the splits, but raised {describe(error)}", where) from error
    if not isinstance(returned, Mapping):
        raise refusal(f"{factory}() must return a mapping of splits, but got {type(returned).__name__}", where)
    return returned


def _pair(value: object, origin: Origin, *, progress: Progress, notice: Notice) -> tuple[InputRows, NDArray[Any]]:
    """Convert a pair (inputs, targets) or a map-style data set to arrays, or raise RequestError."""
    split, where = origin.split, origin.where
    if isinstance(value, DataLoader):
        raise refusal(f"{split} must be a map-style Dataset, but got a DataLoader; return its .dataset", where)
    if isinstance(value, IterableDataset):
        raise refusal(f"{split} must be a map-style Dataset, but got the iterable {kind_of(value)}", where)
    if is_dataset(value):
        stored = read_dataset(value, origin, progress=progress, notice=notice)
        return {INPUT_NAME: as_input(stored.samples, split, where, identity=stored.identity)}, stored.targets
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise refusal(f"{split} must be a pair (inputs, labels) or a torch Dataset, but got {kind_of(value)}", where)
    inputs, targets = as_inputs(value[0], split, where), as_targets(value[1], split, where)
    for name, values in inputs.items():
        if len(values) != len(targets):
            given = f"{len(targets)} labels for {len(values)} samples of {name}"
            raise refusal(f"{split} must have one label for each input, but got {given}", where)
    return inputs, targets


def require_one_shape(inputs: Mapping[str, InputRows], where: str) -> None:
    """Refuse splits whose inputs differ from those of train in name, type or shape."""
    expected = {name: (values.dtype, values.shape[1:]) for name, values in inputs["train"].items()}
    for split, arrays in inputs.items():
        if list(arrays) != list(expected):
            rule = f"inputs must be {', '.join(expected)} in every split"
            raise refusal(f"{rule}, but got {', '.join(arrays)} in {split}", where)
        for name, values in arrays.items():
            kind, shape = expected[name]
            if values.shape[1:] != shape:
                rule = f"samples must have the shape {shape} of train in every split"
                raise refusal(f"{rule}, but got {values.shape[1:]} in {split}", where)
            if values.dtype != kind:
                raise refusal(f"inputs must have the type {kind} of train, but got {values.dtype} in {split}", where)
