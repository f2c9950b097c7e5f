"""Search small, fast students of a trained network, each trained from scratch and measured on its file.

`__all__` is the public list. A name is loaded at its first use, so `import nas_compress` imports no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_compress.config.schema import StudySpec as StudySpec
    from nas_compress.errors import NasCompressError as NasCompressError
    from nas_compress.export.onnx_file import export_onnx as export_onnx
    from nas_compress.models.families import build_student as build_student
    from nas_compress.quantization.quantize import quantize as quantize
    from nas_compress.runs.front import Front as Front
    from nas_compress.search.measure import measure as measure
    from nas_compress.search.run import run_study as run_study
    from nas_compress.training.loop import train as train
    from nas_compress.trial.run import run_trial as run_trial
    from nas_compress.values.candidate import Candidate as Candidate
    from nas_compress.values.candidate import LossTerm as LossTerm
    from nas_compress.values.metrics.table import Objective as Objective
    from nas_compress.values.outcome import Outcome as Outcome
    from nas_compress.values.pareto import hypervolume as hypervolume

__version__ = "0.1.0"

_HOMES = {
    "Candidate": "values.candidate",
    "Front": "runs.front",
    "LossTerm": "values.candidate",
    "NasCompressError": "errors",
    "Objective": "values.metrics.table",
    "Outcome": "values.outcome",
    "StudySpec": "config.schema",
    "build_student": "models.families",
    "export_onnx": "export.onnx_file",
    "hypervolume": "values.pareto",
    "measure": "search.measure",
    "quantize": "quantization.quantize",
    "run_study": "search.run",
    "run_trial": "trial.run",
    "train": "training.loop",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nas_compress' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nas_compress.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
