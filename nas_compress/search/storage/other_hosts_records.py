"""Records of other hosts, read from the attributes of their trials. Every value is checked before it is used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nas_compress.errors import NasCompressError, describe
from nas_compress.runs.checks.plausible import require_plausible_record
from nas_compress.runs.records import Record
from nas_compress.search.samplers.proposals import Suggesting, point_of
from nas_compress.search.storage.attribute_names import FILE, MACHINE, OUTCOME
from nas_compress.search.storage.journal import MALFORMED
from nas_compress.values.file_constants import FORMS
from nas_compress.values.outcome import Outcome

STORED_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Name of a file in Optuna's artifact stores. It contains no path."""


LARGEST_RECORD = 1_000_000
"""Largest record of another host, in bytes of JSON. A record has a few thousand; a file of one is limited too."""


@dataclass(frozen=True, kw_only=True)
class SentFile:
    """A model file in the shared store: its name there, its SHA-256 and its size in bytes."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A record of another host. machine: of its latency. file: None if the host stored none."""

    record: Record
    machine: str
    file: SentFile | None


def read_foreign(trial: FrozenTrial, space: Suggesting) -> Foreign:
    """Return the record in the attributes of another host's trial. ValueError with the reason if it is not valid.

    space: the function of the search space, which must make the candidate of the record from the parameters.
    """
    try:
        return _foreign(trial, trial.user_attrs, space)
    except NasCompressError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except MALFORMED as error:
        raise ValueError(describe(error)) from error


def is_told(trial: FrozenTrial, state: str) -> bool:
    """Return True if a finished trial ended with an outcome of that state and was not given up."""
    return (state == "failed") is (trial.state == TrialState.FAIL)


def _foreign(trial: FrozenTrial, known: Mapping[str, Any], space: Suggesting) -> Foreign:
    sent, repeats, model, machine = known[OUTCOME], known["repeats"], known["model"], known.get(MACHINE)
    size = len(json.dumps(sent))
    if size > LARGEST_RECORD:
        raise ValueError(f"it must have at most {LARGEST_RECORD} bytes, but has {size}")
    outcome = Outcome.from_dict(sent["outcome"])
    values = {
        "trial": trial.number,
        "params": dict(trial.params),
        "finished_s": sent["finished_s"],
        "model": model,
        "repeats": repeats,
        "files": sent.get("files", {}),
        "versions": sent.get("versions", {}),
    }
    require_plausible_record(values, outcome, trial=trial.number)
    owner = trial.number if repeats is None else repeats
    if not 0 <= owner <= trial.number or model not in ("", *(f"trials/{owner}/{name}" for name in FORMS.values())):
        raise ValueError(f"its model must be a file of trial {owner}, but is {model!r:.80}")
    point = point_of(space, trial.params)
    if point is None or point.candidate != outcome.candidate:
        raise ValueError("its candidate must be that of its parameters")
    if not isinstance(machine, str):
        raise ValueError(f"its machine must be text, but is {machine!r:.80}")
    record = Record(outcome=outcome, **values)
    return Foreign(record=record, machine=machine, file=_file(record, known.get(FILE)))


def _file(record: Record, name: Any) -> SentFile | None:
    """Return the file of a record in the shared store, None without one."""
    if name is None or record.repeats is not None or not record.model:
        return None
    if not isinstance(name, str) or not STORED_NAME.fullmatch(name):
        raise ValueError(f"its file must be named by an identifier, but is {name!r:.80}")
    if record.model not in record.files:
        raise ValueError("its file has no SHA-256")
    measured = record.outcome.measured
    size = None if measured is None else measured.figures.get("size_bytes")
    if size is None:
        raise ValueError("its file has no size")
    return SentFile(name=name, sha256=record.files[record.model], size_bytes=int(size))
