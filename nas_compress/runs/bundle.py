"""A front member as a folder that stands alone: the file, its candidate, its figures, how to run it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from nas_compress.errors import RequestError
from nas_compress.files import write_json, write_text
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_baseline, read_record
from nas_compress.runs.speed_notes import SIMULATION
from nas_compress.values.metrics import METRICS
from nas_compress.values.model_file import FORMS
from nas_compress.values.precision import SIMULATED

EXAMPLE = '''"""Classify raw samples with this model; needs onnxruntime and numpy only."""
{loader}
samples = np.zeros((1, {channels}, {height}, {width}), dtype=np.uint8)  # put your own raw samples here
(logits,) = session.run(["logits"], {{"input": samples}})
print("class", int(logits[0].argmax()), "of {classes}; logits", logits[0].round(2).tolist())
'''

LOADERS = {
    FORMS["onnx"]: """from pathlib import Path

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(Path(__file__).parent / "model.onnx", providers=["CPUExecutionProvider"])""",
    FORMS["compressed"]: """import lzma
from pathlib import Path

import numpy as np
import onnxruntime

model = lzma.decompress((Path(__file__).parent / "model.onnx.xz").read_bytes())
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])""",
}
"""How each form of a file is opened."""

CARD = """# {study}, trial {trial}

A student found by nas-compress, trained from scratch. `{file}` takes raw samples, `input`: uint8
(N, {channels}, {height}, {width}) as the data set stores them, and gives `logits`: float32 (N, {classes}).

| figure | this model | teacher |
|---|---|---|
| numbers | {number_format} | float32 |
{rows}

accuracy: fraction of the validation split, by onnxruntime on this file. latency: batch 1, one thread, on
{machine}.{simulated} The search chose this model by its validation figures, so expect a little less on new data.

Candidate: {candidate}

```python
{example}```

`nas-compress run config.json` trains the same candidate again.
"""


def export_bundles(folder: RunFolder, places: Mapping[int, Path]) -> list[Path]:
    """Write a bundle for each trial into its folder; nothing is written unless all of them can be."""
    for trial, out in places.items():
        trained_record(folder, trial)
        _require_new(out)
    for trial, out in places.items():
        export_bundle(folder, trial, out)
    return list(places.values())


def export_bundle(folder: RunFolder, trial: int, out: Path) -> None:
    """Write a trained trial's file, config.json, metrics.json, README.md and example.py into a new folder."""
    record = trained_record(folder, trial)
    _require_new(out)
    about = folder.about()
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder.root / record.model, out / Path(record.model).name)
    write_json(
        out / "config.json",
        {
            "candidate": record.outcome.candidate.to_dict(),
            "params": dict(record.params),
            "study": about["study"],
            "study_folder": about["study_folder"],
            "seed": record.outcome.seed,
            "versions": about["versions"],
        },
    )
    outcome = record.outcome.to_dict()
    keys = ("number_format", "measured", "architecture", "epochs", "losses", "seconds")
    write_json(
        out / "metrics.json",
        {"trial": trial, "machine": about["machine"], **{key: outcome[key] for key in keys}},
    )
    example = _example(record)
    write_text(out / "example.py", example)
    write_text(out / "README.md", _card(folder, record, example))


def trained_record(folder: RunFolder, trial: int) -> Record:
    """The record of a trial that was trained; RequestError says why there is none."""
    record = read_record(folder, trial)
    if record is None:
        state = "was not finished" if folder.trial(trial).is_dir() else "does not exist"
        raise RequestError(f"--trial must be a finished trial, but trial {trial} {state} in {folder.root}")
    if record.outcome.state != "trained":
        ended = f"{record.outcome.state}: {record.outcome.reason}"
        raise RequestError(f"--trial must be a trained trial, but trial {trial} ended as {ended}")
    return record


def _require_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"--out must be a new or empty folder, but {out} is not")


def _example(record: Record) -> str:
    architecture = record.outcome.architecture
    if architecture is None:
        raise RequestError(f"trial {record.trial} has no architecture in its record")
    signature, loader = architecture.signature, LOADERS[Path(record.model).name]
    channels, height, width = signature.image_shape
    return EXAMPLE.format(loader=loader, channels=channels, height=height, width=width, classes=signature.classes)


def _card(folder: RunFolder, record: Record, example: str) -> str:
    architecture, measured, teacher = (
        record.outcome.architecture,
        record.outcome.measured,
        read_baseline(folder),
    )
    if architecture is None or measured is None:
        raise RequestError(f"trial {record.trial} has no figures in its record")
    others = {} if teacher is None else teacher.figures
    rows = "\n".join(
        f"| {name} | {_cell(name, measured.figures)} | {_cell(name, others)} |"
        for name in METRICS
        if name in measured.figures
    )
    channels, height, width = architecture.signature.image_shape
    return CARD.format(
        file=Path(record.model).name,
        study=folder.spec().name,
        trial=record.trial,
        channels=channels,
        height=height,
        width=width,
        classes=architecture.signature.classes,
        rows=rows,
        number_format=record.outcome.number_format,
        simulated=f" Here: {SIMULATION}." if SIMULATED in record.outcome.number_format else "",
        machine=folder.about()["machine"]["cpu"],
        candidate=", ".join(f"{key} {value}" for key, value in record.params.items()),
        example=example,
    )


def _cell(name: str, figures: Mapping[str, float]) -> str:
    return METRICS[name].cell(figures[name]) if name in figures else ""
