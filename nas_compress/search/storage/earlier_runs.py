"""Warm start: the trials and look-ups of earlier run folders, copied once into the attributes of a new study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna

from nas_compress.callbacks import Notice
from nas_compress.errors import DamagedFileError, RequestError
from nas_compress.runs.folder import RunFolder, open_run
from nas_compress.runs.records import Record, read_records
from nas_compress.search.samplers.cost_cache import PREFIX
from nas_compress.search.samplers.earlier import EARLIER, Earlier, as_text
from nas_compress.search.setup import StudyParts
from nas_compress.search.storage.attribute_names import IDENTITY
from nas_compress.search.storage.journal import read_journal
from nas_compress.search.storage.optuna_trials import told_of
from nas_compress.values.metrics.table import METRICS

DATA = "data (its contents)"
"""Key of a study's identity with the fingerprint of its data."""


def require_earlier_runs(parts: StudyParts) -> list[RunFolder]:
    """Return the folders of `search.warm_start`.

    RequestError unless each is a run folder of the same space and the same data. Other settings may differ.
    """
    return (
        [] if parts.file.candidate is not None else [_checked(parts, entry) for entry in parts.spec.search.warm_start]
    )


def learn_from_earlier(study: optuna.Study, parts: StudyParts, say: Notice) -> None:
    """Copy the trials and look-ups of the earlier runs into a study that has none of them yet.

    parts: with the limits of budgets relative to the teacher. say: receives a line for each run.
    """
    known = study.user_attrs
    missing = [number for number in range(len(parts.spec.search.warm_start)) if f"{EARLIER}{number}" not in known]
    if not missing or parts.file.candidate is not None:
        return
    folders = require_earlier_runs(parts)
    for number in missing:
        folder = folders[number]
        same = _same_machine(folder.about(), parts)
        candidates = [
            _candidate(number, record, parts, same_machine=same)
            for record in read_records(folder)
            if record.outcome.state == "trained" and record.outcome.measured is not None and record.repeats is None
        ]
        looks = _looks(folder, parts) if same else {}
        for name, text in looks.items():
            if name not in known:
                study.set_user_attr(name, text)
        study.set_user_attr(f"{EARLIER}{number}", as_text(candidates))
        without = "" if same else "; its times are of another machine or other conditions and are not used"
        say(
            f"warm start: {len(candidates)} trials and {len(looks)} look-ups of {folder.root} teach the models{without}"
        )


def _checked(parts: StudyParts, entry: str) -> RunFolder:
    where = f"{parts.file.label}: search.warm_start"
    path = (parts.file.folder / Path(entry).expanduser()).resolve()
    try:
        folder = open_run(path)
        read_records(folder)  # a damaged one is refused before anything is trained
    except (RequestError, DamagedFileError) as error:
        near = sorted(each.parent.name for each in path.parent.glob("*/run.json"))
        hint = f"; runs beside it: {', '.join(near[:5])}" if near else ""
        raise RequestError(f"{where} must name run folders, but got {entry!r}: {error}{hint}") from error
    about = folder.about()
    space = about.get("space", {})
    if space.get("hash") != parts.space.source_hash:
        raise RequestError(
            f"{where} needs runs of the same space, but {entry!r} searched {space.get('name', 'another one')!r} with "
            f"another text than {parts.space.name!r}; leave it out, or restore the file of the space"
        )
    data = about.get("data") or _identity_of(folder).get(DATA)
    if data != parts.dataset.fingerprint:
        raise RequestError(
            f"{where} needs runs on the same data and split, but {entry!r} has other samples than {parts.file.label}; "
            "leave it out, or use its [data]"
        )
    return folder


def _same_machine(about: Mapping[str, Any], parts: StudyParts) -> bool:
    """True if the latencies of a run hold for this study: the same device, conditions and named devices."""
    before, now = about.get("machine", {}), parts.target.describe()
    same_devices = not parts.spec.devices and not about.get("study", {}).get("devices")
    return same_devices and all(before.get(key) == now.get(key) for key in ("device", "key", "conditions"))


def _candidate(number: int, record: Record, parts: StudyParts, *, same_machine: bool) -> Earlier:
    spec, measured = parts.spec, record.outcome.measured
    told = told_of(record, spec, budgets=parts.budgets, task=parts.dataset.task)

    def is_known(name: str) -> bool:
        if measured is None or measured.lacks(name):
            return False
        return same_machine or (not METRICS[name].timed and not METRICS[name].device)

    names = spec.objectives if spec.reward is None else (spec.reward.figure,)
    held = {name: violation for name, violation in told.constraints.items() if is_known(name.partition(" ")[0])}
    values = tuple(value if is_known(name) else None for name, value in zip(names, told.values, strict=True))
    return Earlier(source=number, params=record.params, values=values, constraints=held)


def _looks(folder: RunFolder, parts: StudyParts) -> dict[str, str]:
    """Return the looked-up costs in the journal of a run with the same objectives and budgets."""
    before = folder.about().get("study", {})
    now = json.loads(json.dumps(parts.spec.model_dump(mode="json")))
    keys = ("objectives", "budgets", "export", "target")
    rewards = before.get("search", {}).get("reward") == now["search"]["reward"]
    same = rewards and all(before.get(key) == now.get(key) for key in keys)
    if not same or any(budget.relative for budget in parts.budgets):
        return {}
    found = _attributes(folder)
    return {name: text for name, text in found.items() if name.startswith(PREFIX) and isinstance(text, str)}


def _identity_of(folder: RunFolder) -> Mapping[str, Any]:
    identity = _attributes(folder).get(IDENTITY)
    return identity if isinstance(identity, dict) else {}


def _attributes(folder: RunFolder) -> Mapping[str, Any]:
    """Return the study's attributes in the journal of a run; none if it has no readable journal."""
    name = folder.about().get("study", {}).get("name")
    with suppress(DamagedFileError, OSError, KeyError):
        if folder.journal.is_file() and isinstance(name, str):
            storage, _ = read_journal(folder.journal)
            return optuna.load_study(study_name=name, storage=storage).user_attrs
    return {}
