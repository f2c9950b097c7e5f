"""The named devices of a study, opened from its tables `[device.NAME]`."""

from __future__ import annotations

from nas_compress.config.schema import StudySpec
from nas_compress.devices.protocol import Device
from nas_compress.devices.table import DEVICES, open_device
from nas_compress.errors import require_known


def open_named(spec: StudySpec, *, label: str, recorded: bool = False) -> dict[str, Device]:
    """Open the named devices of a study, by name; no device is asked anything yet.

    label: of the study file, for messages. recorded: the study was read from a run folder or a bundle, which hold no
    commands; remote devices are left out then, and their figures are not measured.
    RequestError if a kind is unknown, or lacks a setting or a command.
    """
    opened = {}
    for name in spec.devices:
        if not (recorded and needs_command(spec, name)):
            opened[name] = open_one(spec, name, label=label)
    return opened


def open_one(spec: StudySpec, name: str, *, label: str) -> Device:
    """Open a named device of a study; RequestError if the study has none of that name."""
    require_known("a device of the study", name, spec.devices, label)
    section = spec.devices[name]
    where = f"{label}: device.{name}"
    require_known("kind", section.kind or name, DEVICES, where)
    return open_device(section.kind or name, spec.settings_of(name), where=where, command=section.command)


def needs_command(spec: StudySpec, name: str) -> bool:
    """True if a named device is remote and the study does not have its command."""
    entry = DEVICES.get(spec.devices[name].kind or name)
    return entry is not None and entry.make_by_command is not None and not spec.devices[name].command
