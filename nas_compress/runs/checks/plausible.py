"""Rules for the values of a record. nas_compress measures no value outside them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from math import inf, isfinite
from typing import Any, get_args

from nas_compress.errors import RequestError
from nas_compress.values.exits.figures import ExitFigures
from nas_compress.values.file_constants import FORMS
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.outcome import Measured, Outcome, State

DIGEST = re.compile(r"[0-9a-f]{64}")
"""A SHA-256."""

FILE = re.compile(r"[\w-]+(\.[\w-]+)*(/[\w-]+(\.[\w-]+)*)*")
"""A path in a run folder, without `..` and with no root."""


def require_plausible_record(values: Mapping[str, Any], outcome: Outcome, *, trial: int) -> None:
    """Raise ValueError unless the values of a trial's record are possible.

    values: fields of the record. trial: number of the folder with the record.
    """
    number, repeats = values["trial"], values.get("repeats")
    _require(type(number) is int and number == trial, f"trial must be {trial}, the name of its folder", number)
    if repeats is not None:
        _whole("repeats", repeats)
        _require(repeats != trial, f"repeats must be another trial than {trial}", repeats)
    _number("finished_s", values["finished_s"], 0)
    _mapping("params", values["params"])
    _mapping("versions", values.get("versions", {}))
    model = values["model"]
    possible = {"", *(f"trials/{place}/{name}" for place in (trial, repeats) for name in FORMS.values())}
    _require(isinstance(model, str) and model in possible, "model must be a file of the trial's own folder", model)
    require_plausible_files(values.get("files", {}))
    require_plausible_outcome(outcome)


def require_plausible_files(files: Any) -> None:
    """Raise ValueError unless these are SHA-256 digests by path in the run folder."""
    for path, digest in _mapping("files", files).items():
        known = FILE.fullmatch(path) and isinstance(digest, str) and DIGEST.fullmatch(digest)
        _require(bool(known), "files must be digests by path in the run folder", {path: digest})


def require_plausible_outcome(outcome: Outcome) -> None:
    """Raise ValueError unless every value of an outcome is possible."""
    states = get_args(State)
    _require(outcome.state in states, f"state must be one of {', '.join(states)}", outcome.state)
    _require(outcome.reason is None or isinstance(outcome.reason, str), "reason must be text", outcome.reason)
    _require(type(outcome.seed) is int, "seed must be a whole number", outcome.seed)
    for name in ("epochs", "trainings", "planned_epochs", "teacher_epochs", "stopped_at"):
        value = getattr(outcome, name)
        if name != "stopped_at" or value is not None:
            _whole(name, value)
    if outcome.integer_latency_ms is not None:
        _number("integer_latency_ms", outcome.integer_latency_ms, 0, above=True)
    for name, seconds in _mapping("seconds", outcome.seconds).items():
        _number(f"seconds.{name}", seconds, 0)
    for name, loss in _mapping("losses", outcome.losses).items():
        _require(type(loss) in (int, float), f"losses.{name} must be a number", loss)
    for epoch, figure in outcome.curve:
        _whole("an epoch of the curve", epoch)
        _require(type(figure) in (int, float), "a figure of the curve must be a number", figure)
    if outcome.state == "trained":
        _require(outcome.measured is not None, "a trained trial must have figures", None)
    if outcome.measured is not None:
        require_plausible_figures(outcome.measured)


def require_plausible_figures(measured: Measured) -> None:
    """Raise ValueError unless every figure of a file is possible."""
    for name, value in measured.figures.items():
        _number(name, value)
        if name in METRICS:
            try:
                METRICS[name].require(value)
            except RequestError as error:
                raise ValueError(str(error)) from error
    _number("latency_spread", measured.latency_spread, 0)
    _require(type(measured.latency_noisy) is bool, "latency_noisy must be true or false", measured.latency_noisy)
    for name, high in (("agreement", 1.0), ("zero_fraction", 1.0), ("max_difference", inf)):
        if getattr(measured, name) is not None:
            _number(name, getattr(measured, name), 0, high)
    if measured.float32_latency_ms is not None:
        _number("float32_latency_ms", measured.float32_latency_ms, 0, above=True)
    for device, spread in _mapping("device_spreads", measured.device_spreads).items():
        _number(f"device_spreads.{device}", spread, 0)
    for device, share in _mapping("device_agreements", measured.device_agreements).items():
        _number(f"device_agreements.{device}", share, 0, 1)
    for device in measured.noisy_devices:
        _require(isinstance(device, str), "noisy_devices must have names of devices", device)
    _require_rows(measured.confusion)
    if measured.exits is not None:
        _require_plausible_exits(measured.exits)
    for name, size in _mapping("steps", measured.steps).items():
        _whole(f"steps.{name}", size)


def _require_rows(confusion: Sequence[object]) -> None:
    for row in confusion:
        _require(isinstance(row, str), "confusion must have rows of text", row)


def _require_plausible_exits(exits: ExitFigures) -> None:
    count = len(exits.latency_ms)
    _require(count > 1 and len(exits.macs) == len(exits.rates) == count, "exits must have equal lists", exits.macs)
    for latency_ms, macs, rate in zip(exits.latency_ms, exits.macs, exits.rates, strict=True):
        _number("exits.latency_ms", latency_ms, 0, above=True)
        _whole("exits.macs", macs)
        _number("exits.rates", rate, 0, 1.0)
    for threshold in exits.thresholds:
        if threshold is not None:
            _number("exits.thresholds", threshold)
    if exits.changed is not None:
        _number("exits.changed", exits.changed, 0, 1.0)
    _whole("exits.stream_samples", exits.stream_samples)
    _require_plausible_stream("exits.stream_ms", exits.stream_ms)
    for point in exits.points:
        for name, value in _mapping("exits.points.figures", point.figures).items():
            _number(f"exits.points.figures.{name}", value)
            if name in METRICS:
                METRICS[name].require(value)
        _require_rows(point.confusion)
        _require(len(point.rates) == count, "exits.points must have a rate per exit", point.rates)
        _require(len(point.thresholds) == count - 1, "exits.points must have a threshold per exit", point.thresholds)
        for threshold in point.thresholds:
            if threshold is not None:
                _number("exits.points.thresholds", threshold)
        if point.changed is not None:
            _number("exits.points.changed", point.changed, 0, 1.0)
        _require_plausible_stream("exits.points.stream_ms", point.stream_ms)
        _number("exits.points.accuracy_loss", point.accuracy_loss, 0, 1.0)
        _number("exits.points.accuracy", point.accuracy, 0, 1.0)
        _number("exits.points.latency_ms", point.latency_ms, 0, above=True)


def _require_plausible_stream(name: str, stream_ms: Any) -> None:
    _require(isinstance(stream_ms, tuple) and len(stream_ms) in (0, 3), f"{name} must be three numbers", stream_ms)
    for value in stream_ms:
        _number(name, value, 0, above=True)


def require_numbers(values: Mapping[str, Any], *, texts: Collection[str] = ()) -> None:
    """Raise ValueError unless each value is a finite number or None, except those named in `texts`."""
    for name, value in values.items():
        if name not in texts and value is not None:
            _number(name, value)


def _require(holds: bool, rule: str, value: object) -> None:
    if not holds:
        shown = repr(value)
        raise ValueError(f"{rule}, but got {shown if len(shown) <= 80 else f'{shown[:80]}...'}")


def _whole(name: str, value: object) -> None:
    _require(type(value) is int and value >= 0, f"{name} must be a whole number of at least 0", value)


def _number(name: str, value: Any, low: float = -inf, high: float = inf, *, above: bool = False) -> None:
    """Require a finite number from `low` to `high`. above: `low` itself is refused too."""
    _require(type(value) in (int, float) and isfinite(value), f"{name} must be a finite number", value)
    limits = f"above {low:g}" if above else f"at least {low:g}" if high == inf else f"from {low:g} to {high:g}"
    _require((low < value if above else low <= value) and value <= high, f"{name} must be {limits}", value)


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    _require(isinstance(value, Mapping), f"{name} must be an object", value)
    found: Mapping[str, Any] = value
    return found
