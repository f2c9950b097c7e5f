"""`[target]`, the device of a study, and `[device.NAME]`, its further devices."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from nas_compress.config.section import Section
from nas_compress.errors import RequestError
from nas_compress.values.device_settings import ALIASES, DEFAULT_SETTINGS, DeviceSettings

DeviceName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")]
"""Name of a device of the study, behind the @ of its metrics."""

REMOTE = "remote"
"""Kind of a device that is reached by a command."""


class _Conditions(Section):
    threads: PositiveInt = DEFAULT_SETTINGS.threads
    batch: PositiveInt = DEFAULT_SETTINGS.batch
    percentile: str = DEFAULT_SETTINGS.percentile
    providers: tuple[str, ...] = DEFAULT_SETTINGS.providers

    @property
    def settings(self) -> DeviceSettings:
        """The conditions as a value."""
        return DeviceSettings(
            threads=self.threads, batch=self.batch, percentile=self.percentile, providers=self.providers
        )

    @field_validator("percentile")
    @classmethod
    def _one_name(cls, percentile: str) -> str:
        return ALIASES.get(percentile, percentile)

    @model_validator(mode="after")
    def _known_values(self) -> Self:
        try:
            _ = self.settings
        except RequestError as error:
            raise ValueError(str(error)) from error
        return self


class TargetSection(_Conditions):
    """`[target]`: the device of the latencies and their conditions. `target = "name"` chooses the device alone.

    name: of `nas-compress list devices`.
    threads, batch, percentile, providers: see `values.device_settings`. Each value has latencies of its own.
    """

    name: str = "onnxruntime_cpu"

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, values: Any) -> Any:
        return {"name": values} if isinstance(values, str) else _with_tuples(values)

    @model_serializer(mode="wrap")
    def _name_alone(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any] | str:
        # the form of studies from before the settings, which keeps their identity
        values: dict[str, Any] = plain(self)
        return self.name if self.settings.are_default else values


class DeviceSection(_Conditions):
    """`[device.NAME]`: a further device of the study. Its metrics are `latency_ms@NAME` and `samples_per_s@NAME`.

    kind: of `nas-compress list devices`; by default `remote` if there is a command, else the name of the table.
    command: program and arguments that start the agent on a remote device. It is in no run folder, report or bundle,
    because it may name hosts and keys, and is not part of the study's identity.
    threads, batch, percentile, providers: as in `[target]`.
    """

    kind: str | None = None
    command: tuple[str, ...] = Field(default=(), exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("command") and values.get("kind") is None:
            values = {**values, "kind": REMOTE}  # the form that a run folder keeps, which has no command
        return _with_tuples(values)


def _with_tuples(values: Any) -> Any:
    """Turn lists into tuples: the result of a validator is validated in strict Python mode, which refuses lists."""
    if not isinstance(values, dict):
        return values
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
