"""Read a study file; a mistake gives one line with rule, value, file and key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from nas_compress.config.device_section import DeviceSection
from nas_compress.config.metric_budget_section import BudgetSection
from nas_compress.config.own_metrics import MetricSection
from nas_compress.config.pretrained import with_pretrained_shape
from nas_compress.config.schema import StudySpec
from nas_compress.config.section import Section
from nas_compress.config.shipped import shipped_names, shipped_path
from nas_compress.config.tasks_section import TaskSection
from nas_compress.config.toml_file import read_toml, require_plain
from nas_compress.errors import RequestError, describe, first_line, nearest, printable
from nas_compress.files import read_json
from nas_compress.values.candidate import Candidate

_LONGEST = 100  # characters of a value in a message

TYPES = re.compile(r"int|float|str|bool|constrained-\w+|(tuple|list|dict|literal)\[.*\]")
"""Parts of a mistake's place that name a type of its key, as pydantic writes them."""

INPUT = "Input should be "
"""Start of pydantic's rules."""


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """A study specification and the folder of its relative paths.

    candidate: of the config.json of an exported bundle, if the study trains it again; None for a study.toml.
    """

    spec: StudySpec
    folder: Path
    label: str
    candidate: Candidate | None = None


def read_study(study: str | Path) -> StudyFile:
    """Find and read STUDY: a study.toml, its folder, a built-in name, or an exported config.json."""
    path = _find(study)
    if path.suffix == ".json":
        return _read_config(path)
    values = with_pretrained_shape(read_toml(path), path.parent.resolve(), path.name)
    return StudyFile(spec=parse_spec(values, path.name), folder=path.parent.resolve(), label=path.name)


def parse_spec(values: Mapping[str, Any], label: str) -> StudySpec:
    """Check plain values against the schema; the first mistake becomes a RequestError. label: the file's name."""
    require_plain(values, label)
    values = _with_devices(values, label)
    try:
        return StudySpec.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise RequestError(f"{label}: {printable(_first_mistake(error))}") from error


def _with_devices(values: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """Move the tables `[device.NAME]` to the key `devices`: as text, `device` is where networks are trained."""
    if not isinstance(values.get("device"), Mapping):
        return values
    if "devices" in values:
        raise RequestError(f"{label}: devices must be tables of one kind, but got [device] and [devices]; use one")
    return {**{name: value for name, value in values.items() if name != "device"}, "devices": values["device"]}


def _find(study: str | Path) -> Path:
    path = Path(study)
    with suppress(OSError):  # such as a name that is too long
        path = path / "study.toml" if path.is_dir() else path
        if path.is_file():
            return path
    shipped = shipped_path("studies", f"{study}/study.toml") if str(study) in shipped_names("studies") else None
    if shipped is not None:
        return shipped
    raise RequestError(
        "a study must be a study.toml, a folder that holds one, or a built-in name, "
        f"but got {str(study)!r}{nearest(str(study), shipped_names('studies'))}"
    )


def _read_config(path: Path) -> StudyFile:
    rule = f"a .json study must be the config.json of an exported bundle, but {path}"
    try:
        values = read_json(path, strict=True)
    except OSError as error:
        raise RequestError(f"{rule} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RequestError(f"{rule} is not: {printable(first_line(error))}") from error
    try:
        candidate = _candidate(values["candidate"], path.name)
        spec = parse_spec(values["study"], path.name)
        folder = _folder(values, path.parent.resolve())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{rule} is not: {printable(describe(error))}") from error
    return StudyFile(spec=spec, folder=folder, label=path.name, candidate=candidate)


def _folder(values: Mapping[str, Any], own: Path) -> Path:
    """Return the folder of a bundle's modules: its own one. Earlier versions recorded the folder of the study."""
    recorded = Path(values.get("study_folder", own))
    return recorded if recorded.is_dir() else own


def _candidate(values: Mapping[str, Any], label: str) -> Candidate:
    try:
        return Candidate.from_dict(values)
    except RequestError as error:
        raise RequestError(f"{label}: candidate: {error}") from error


def _first_mistake(error: ValidationError) -> str:
    first, *others = error.errors()
    # a key of several types has a mistake for each of them: the one that fits furthest counts
    same = [first, *(each for each in others if _place(each)[: len(_place(first))] == _place(first))]
    mistake = max(same, key=lambda each: len(_place(each)))
    place = _place(mistake)
    rules = [str(each["msg"]) for each in same if _place(each) == place]
    if place[:1] == ["devices"]:
        place[0] = "device"  # as the file has it
    key = ".".join(place) or "the study"
    if mistake["type"] == "extra_forbidden":
        return f"every key must be known, but got {key}{nearest(place[-1], _keys_beside(place[:-1]))}"
    if mistake["type"] == "missing":
        return f"{key} must be given, but is missing"
    rule = " or ".join([rules[0].removeprefix("Value error, "), *(each.removeprefix(INPUT) for each in rules[1:])])
    if mistake["type"] == "value_error":
        return f"{key}: {rule}" if place else rule
    if place[:1] == ["device"] and "command" in place:
        # without the command, which may name a user, a host or a key
        return f"{'.'.join(place[:3])} must be a list of texts, such as ['ssh', 'user@device'], but got something else"
    return f"{key}: {rule[0].lower()}{rule[1:]}, but got {key}={_shown(mistake['input'])}"


def _place(mistake: ErrorDetails) -> list[str]:
    """Return the key of a mistake, without the types of a key with several."""
    return [str(part) for part in mistake["loc"] if not TYPES.fullmatch(str(part))]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _keys_beside(place: list[str]) -> list[str]:
    section: type[Section] = StudySpec
    for part in place:
        field = section.model_fields.get(part)
        inner = field.annotation if field else None
        if part == "device" and len(place) > 1:
            return DeviceSection.key_names()
        if part == "tasks" and len(place) > 1:
            return TaskSection.key_names()
        if not (isinstance(inner, type) and issubclass(inner, Section)):
            return [name for kind in (BudgetSection, MetricSection) for name in kind.key_names()]
        section = inner
    return section.key_names()
