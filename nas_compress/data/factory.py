"""Data from the user's own module: import it, call its function, check what came back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from nas_compress.data.assemble import Parts, Samples
from nas_compress.data.checks import class_count, require_complete
from nas_compress.data.stratified_split import stratified_split
from nas_compress.data.user_data import to_samples
from nas_compress.errors import describe, refusal, require_known
from nas_compress.user_code import user_callable

VALIDATION_SHARE = 0.15
"""Of the training samples, where the function returns no validation split."""

SPLITS = ("train", "validation", "test")
"""The keys that the function's mapping may have; validation may be left out."""


def read_factory(factory: str, *, folder: Path | None, seed: int, where: str) -> Parts:
    """Call `module:callable` without arguments and check the splits that it returns.

    `folder` stands first on sys.path meanwhile. RequestError says in one line what is wrong.
    """
    with user_callable(factory, folder=folder, where=where) as function:
        returned = _call(function, factory, where)
        splits = _splits(returned, where)
    classes = class_count(splits["train"][1], where)
    require_complete(splits, classes, where)
    if "validation" not in splits:
        splits = _with_validation(splits, seed)
        shown = f"validation ({VALIDATION_SHARE:.0%} of train)"
        require_complete({"train": splits["train"], shown: splits["validation"]}, classes, where)
    return Parts(
        name=factory,
        classes=classes,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
    )


def _call(function: Callable[[], object], factory: str, where: str) -> Mapping[object, object]:
    try:
        returned = function()
    except Exception as error:
        raise refusal(f"{factory}() must return the splits, but raised {describe(error)}", where) from error
    if not isinstance(returned, Mapping):
        raise refusal(f"{factory}() must return a mapping of splits, but got {type(returned).__name__}", where)
    return returned


def _splits(returned: Mapping[object, object], where: str) -> dict[str, Samples]:
    for key in returned:
        require_known("a split", str(key), SPLITS, where)
    for key in ("train", "test"):
        if key not in returned:
            got = ", ".join(map(str, returned)) or "none"
            raise refusal(f"the splits must include train and test, but got {got}", where)
    return {name: to_samples(returned[name], name, where) for name in SPLITS if name in returned}


def _with_validation(splits: Mapping[str, Samples], seed: int) -> dict[str, Samples]:
    inputs, labels = splits["train"]
    count = max(1, round(VALIDATION_SHARE * len(labels)))
    validation, train = stratified_split(labels, counts=(count, len(labels) - count), seed=seed)
    return {
        "train": (inputs[train], labels[train]),
        "validation": (inputs[validation], labels[validation]),
        "test": splits["test"],
    }
