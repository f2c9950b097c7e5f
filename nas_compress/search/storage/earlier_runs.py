"""Warm start: the trials and look-ups of earlier run folders, copied once into the attributes of a new study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

import optuna

from nas_compress.callbacks import Notice
from nas_compress.errors import DamagedFileError, RequestError
from nas_compress.runs.folder import RunFolder, open_run
from nas_compress.runs.records import Record, read_records
from nas_compress.search.samplers.cost_cache import PREFIX
from nas_compress.search.samplers.earlier import EARLIER, Earlier, as_text, spaced
from nas_compress.search.setup import StudyParts
from nas_compress.search.storage.attribute_names import IDENTITY, MACHINE
from nas_compress.search.storage.journal import read_journal
from nas_compress.search.storage.optuna_storage import known_errors, opened_storage
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.outcome import Measured

DATA = "data (its contents)"
"""Key of a study's identity with the fingerprint of its data."""

TAKEN_OVER = "taken_over"
"""Key of run.json: the run was started on another machine. Its look-ups are of that machine."""

FREE = ("name", "space", "trials", "seed", "device", "training", "search")
"""Keys of a study that do not change the costs of an untrained candidate of a space with the same text."""


def require_earlier_runs(parts: StudyParts, *, url: str | None = None) -> None:
    """Raise RequestError unless `search.warm_start` names run folders of the same space and data.

    Other settings may differ. url: of the study's database; a host that joins
    a study needs no folders if another one copies, or copied, the trials.
    """
    if _wanted(parts) and not (url is not None and _is_known_there(parts, url)):
        for entry in _wanted(parts):
            _checked(parts, entry)


def learn_from_earlier(study: optuna.Study, parts: StudyParts, say: Notice, *, counts: bool) -> None:
    """Copy the trials and look-ups of the earlier runs into a study that has none of them yet.

    parts: with the limits of budgets relative to the teacher. say: receives a line for each run. counts: this machine's
    latencies are those of the study; otherwise the run with that machine copies.
    A study with trials continues without an earlier run that is missing by now.
    """
    known = study.user_attrs
    for number, entry in enumerate(_wanted(parts) if counts else ()):
        if f"{EARLIER}{number}" in known:
            continue
        try:
            folder, records = _checked(parts, entry)
        except (RequestError, DamagedFileError) as error:
            if not any(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)):
                raise
            say(f"warning: the study continues without the warm start from {entry!r}: {error}")
            continue
        same = _same_machine(folder.about(), parts)
        found = [
            _candidate(number, record, measured, parts, same_machine=same)
            for record in records
            if record.outcome.state == "trained" and record.repeats is None
            if (measured := record.outcome.measured) is not None
        ]
        looks = _looks(folder, parts) if same else {}
        for name, text in looks.items():
            if name not in known:
                study.set_user_attr(name, text)
        study.set_user_attr(f"{EARLIER}{number}", as_text(kept := spaced(found)))
        trials = f"{len(kept)} trials" if len(kept) == len(found) else f"{len(kept)} of {len(found)} trials"
        without = "" if same else "; its times are of another machine or other conditions and are not used"
        say(f"warm start: {trials} and {len(looks)} look-ups of {folder.root} teach the models{without}")


def _wanted(parts: StudyParts) -> Sequence[str]:
    return () if parts.file.candidate is not None else parts.spec.search.warm_start


def _is_known_there(parts: StudyParts, url: str) -> bool:
    """True if the study in a database has the trials of all earlier runs, or gets them from another machine."""
    with known_errors(url), opened_storage(url, Path()) as storage, suppress(KeyError):
        known = optuna.load_study(study_name=parts.spec.name, storage=storage).user_attrs
        copied = all(f"{EARLIER}{number}" in known for number in range(len(_wanted(parts))))
        return copied or known.get(MACHINE, parts.target.fingerprint) != parts.target.fingerprint
    return False


def _checked(parts: StudyParts, entry: str) -> tuple[RunFolder, Sequence[Record]]:
    where = f"{parts.file.label}: search.warm_start"
    try:
        path = (parts.file.folder / Path(entry).expanduser()).resolve()
        folder = open_run(path)
        records = read_records(folder)  # a damaged one is refused before anything is trained
    except (RequestError, DamagedFileError) as error:
        near = sorted(each.parent.name for each in path.parent.glob("*/run.json"))
        hint = f"; runs beside it: {', '.join(near[:5])}" if near else ""
        reason = str(error) if isinstance(error, DamagedFileError) else f"{path} is none"
        raise RequestError(f"{where} must name run folders, but got {entry!r}: {reason}{hint}") from error
    except (OSError, RuntimeError, ValueError) as error:  # no such user, a loop of links, a zero byte
        raise RequestError(f"{where} must name run folders, but got {entry!r}: {error}") from error
    about = folder.about()
    space = about.get("space", {})
    if space.get("hash") != parts.space.source_hash:
        raise RequestError(
            f"{where} needs runs of the same space, but {entry!r} searched {space.get('name', 'another one')!r} with "
            f"another text than {parts.space.name!r}; leave it out, or restore the file of the space"
        )
    data = about.get("data") or _identity_of(folder).get(DATA)
    if data is None:
        raise RequestError(
            f"{where} needs runs on the same data and split, but {entry!r} is of an earlier version and does not name "
            "its data; leave it out, or run its own study again, which adds the name"
        )
    if data != parts.dataset.fingerprint:
        raise RequestError(
            f"{where} needs runs on the same data and split, but {entry!r} has other samples than {parts.file.label}; "
            "leave it out, or use its [data]"
        )
    return folder, records


def _same_machine(about: Mapping[str, Any], parts: StudyParts) -> bool:
    """True if latencies of a run hold for this study: the same device and conditions, no named devices, one host."""
    before, now = about.get("machine", {}), parts.target.describe()
    alone = not parts.spec.devices and not about.get("study", {}).get("devices") and about.get("storage") is None
    return alone and all(before.get(key) == now.get(key) for key in ("device", "key", "conditions"))


def _candidate(number: int, record: Record, measured: Measured, parts: StudyParts, *, same_machine: bool) -> Earlier:
    """Return the figures of a record as values of this study. Noisy latencies may be of another machine."""
    spec, timed = parts.spec, same_machine and not measured.any_noisy

    def figure(name: str) -> float | None:
        if measured.lacks(name) or METRICS[name].device or (METRICS[name].timed and not timed):
            return None
        value = measured.figure(name)
        return value if isfinite(value) else None

    values = tuple(figure(name) for name in spec.objectives)
    if spec.reward is not None:
        quality, cost = figure(spec.reward.quality), figure(spec.reward.figure)
        values = (None if quality is None or cost is None else spec.reward.value(quality, cost),)
    found = {budget.key: (budget, figure(budget.name)) for budget in parts.budgets}
    held = {key: budget.violation(value) for key, (budget, value) in found.items() if value is not None}
    return Earlier(source=number, params=record.params, values=values, constraints=held)


def _looks(folder: RunFolder, parts: StudyParts) -> dict[str, str]:
    """Return the looked-up costs in the journal of a run whose study costs its candidates in the same way."""
    about = folder.about()
    before, now = about.get("study", {}), json.loads(json.dumps(parts.spec.model_dump(mode="json")))
    same = before.get("search", {}).get("reward") == now["search"]["reward"]
    same = same and all(before.get(key) == now.get(key) for key in {*before, *now}.difference(FREE))
    if not same or about.get(TAKEN_OVER) or any(budget.relative for budget in parts.budgets):
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
