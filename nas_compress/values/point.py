"""One point of a front: the figures of a trial, or of the teacher."""

from __future__ import annotations

from dataclasses import dataclass

from nas_compress.errors import RequestError, require_known
from nas_compress.values.metrics import DIRECTIONS

COLUMNS = (
    "trial",
    "accuracy",
    "latency_ms",
    "size_bytes",
    "parameters",
    "macs",
    "epochs_spent",
    "model",
    "number_format",
)
"""The columns of a table of points, before one column for each searched parameter."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """The figures of one finished trial, or of the teacher (whose trial is the word `teacher`).

    accuracy is a fraction of the validation split, nan where the trial ended before its training did. epochs_spent are
    those of all networks that were trained for it, None where that is not known. model is the path of the ONNX file,
    relative to the run folder; `searched` are the searched parameters by name; `feasible` says that every budget is
    kept and training came to its end, `stopped` that a stopping rule or a pruner ended it; float32_latency_ms is that
    of the same architecture in float32, None where it was not compared; `number_format` says what numbers the file
    computes with, and which of them are only simulated: empty where that is not known.
    """

    trial: int | str
    accuracy: float
    latency_ms: float
    size_bytes: int
    parameters: int
    macs: int
    epochs_spent: int | None = None
    model: str = ""
    searched: tuple[tuple[str, object], ...] = ()
    feasible: bool = True
    float32_latency_ms: float | None = None
    number_format: str = ""
    stopped: bool = False

    def __post_init__(self) -> None:
        where = f"(trial {self.trial})"
        if self.accuracy < 0 or self.accuracy > 1:
            raise RequestError(f"0 <= accuracy <= 1 must hold, but got accuracy={self.accuracy} {where}")
        for name in ("latency_ms", "size_bytes", "parameters", "macs"):
            if self.figure(name) <= 0:
                raise RequestError(f"{name} > 0 must hold, but got {name}={self.figure(name)} {where}")

    def figure(self, name: str) -> float:
        """One figure by its objective's name; nan where it was not measured."""
        require_known("a figure", name, DIRECTIONS)
        return float(getattr(self, name))
