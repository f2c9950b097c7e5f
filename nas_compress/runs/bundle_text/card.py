"""README.md of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_compress.config.schema import StudySpec
from nas_compress.data.augment.description import augmentation_words
from nas_compress.errors import RequestError, printable
from nas_compress.runs.bundle_text.sound_example import OF_SOUNDS
from nas_compress.runs.bundle_text.text_example import OF_BYTES, OF_SAMPLES, OF_TEXTS
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, require_teacher
from nas_compress.runs.speed_notes import SIMULATION
from nas_compress.values.exits.words import exits_in_markdown
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.precision import SIMULATED
from nas_compress.values.signature import Signature, TensorSpec

CARD = """# {study}, trial {trial}

A student found by nas-compress, {start}. {file} takes {samples}, {inputs}, and returns {outputs}.

| figure | this model | teacher |
|---|---|---|
| numbers | {number_format} | float32 |
{rows}

Metrics such as accuracy: this file under onnxruntime on the validation split. Latency: {conditions}, on
{machine}.{devices}{simulated} The search chose this model by its validation figures, so expect a little less on new
data.

{exits}Candidate: {candidate}
{whole}{augmentation}
```python
{example}```

`nas-compress run config.json` trains the same candidate again.{needs}
`required_operators.config` lists the operators for a reduced build of onnxruntime, as shipped and as optimised.
"""


def bundle_card(
    folder: RunFolder, record: Record, signature: Signature, example: str, exit_point: int | None = None
) -> str:
    """Return the README.md of a trial's bundle. example: code that runs its file."""
    measured, teacher = record.outcome.measured, require_teacher(folder, [record])
    if measured is None:
        raise RequestError(f"trial {record.trial} has no figures in its record")
    others = {} if teacher is None else teacher.figures
    rows = "\n".join(
        f"| {name} | {_cell(name, measured.figures)} | {_cell(name, others)} |"
        for name in METRICS
        if name in measured.figures
    )
    candidate = record.outcome.candidate
    inherited, note = candidate.pruning.init == "inherit", candidate.teaching.note
    started = f"trained from the weights of its {'pretrained encoder' if note else 'teacher'}" if inherited else ""
    spec = folder.spec()
    words = augmentation_words(spec.data.model_dump())
    return CARD.format(
        file=quoted(Path(record.model).name),
        study=spec.name,
        trial=record.trial if exit_point is None else f"{record.trial}, exit point {exit_point}",
        samples=_samples_in_words(signature),
        start=(started or "trained from scratch") + (f" ({note})" if note else ""),
        whole=_whole_line(record.outcome.whole_layers),
        inputs=_words(signature.inputs),
        outputs=_words(signature.outputs),
        rows=rows,
        number_format=record.outcome.number_format,
        simulated=f" Here: {SIMULATION}." if SIMULATED in record.outcome.number_format else "",
        conditions=spec.target.settings.conditions or "batch 1, one thread",
        machine=quoted(str(folder.about()["machine"]["cpu"])),
        exits="" if measured.exits is None else exits_in_markdown(measured.exits),
        devices=_devices_line(folder.about().get("devices", {})),
        candidate=", ".join(quoted(f"{key} {value}") for key, value in record.params.items()),
        example=example,
        augmentation=f"\nAugmentation of training samples: {quoted(words)}. Raw samples need none.\n" if words else "",
        needs=_needs(spec),
    )


def _samples_in_words(signature: Signature) -> str:
    sound = next((spec.log_mel for spec in signature.inputs if spec.log_mel is not None), None)
    if sound is not None:
        return OF_SOUNDS.format(rate=sound.rate)
    if any(spec.words for spec in signature.inputs):
        return OF_BYTES
    return OF_TEXTS if any(spec.pieces for spec in signature.inputs) else OF_SAMPLES


def _whole_line(layers: Sequence[str]) -> str:
    """Name the layers of the user's network that keep all their channels; empty without any."""
    return f"\nLayers with all their channels: {', '.join(map(quoted, layers))}.\n" if layers else ""


def _devices_line(devices: Mapping[str, Mapping[str, Any]]) -> str:
    """Name the processor, kind and conditions of each named device; empty without any."""
    words = [
        f"{quoted(name)} is {quoted(device.get('cpu', 'unknown'))} under {quoted(device.get('device', 'unknown'))} "
        f"({device.get('conditions') or 'batch 1, one thread'})"
        for name, device in devices.items()
    ]
    return f" Behind an @, {'; '.join(words)}." if words else ""


def _needs(spec: StudySpec) -> str:
    """Name the user's files for another training, empty if it needs none."""
    samples = [name_if_absolute(path) for path in (spec.data.folder, spec.data.text) if path is not None]
    weights = [name_if_absolute(path) for path in (spec.teacher.weights, spec.teacher.hugging_face) if path is not None]
    data = spec.data
    functions = (data.factory, data.preprocess, data.augment, spec.teacher.factory, *spec.metric_functions)
    modules = [name.partition(":")[0] for name in functions if name is not None]
    names = ", ".join(map(quoted, dict.fromkeys([*modules, *samples, *weights])))
    return f" It needs {names} next to config.json or in the working folder." if names else ""


def _cell(name: str, figures: Mapping[str, float]) -> str:
    return METRICS[name].cell(figures[name]) if name in figures else ""


def _words(specs: Sequence[TensorSpec]) -> str:
    """Names, types and shapes of tensors, such as "`logits`: `float32 (N, 10)`"."""
    shapes = [", ".join(map(str, spec.shape)) for spec in specs]
    pairs = zip(specs, shapes, strict=True)
    return ", ".join(f"{quoted(spec.name)}: {quoted(f'{spec.dtype} ({shape})')}" for spec, shape in pairs)


def quoted(text: str) -> str:
    """Return a text as a code span of Markdown, in which neither Markdown nor HTML has a meaning.

    >>> quoted("a `b` <i>")
    "`a 'b' <i>`"
    """
    line = " ".join(text.replace("`", "'").split())
    return f"`{printable(line)}`"


def name_if_absolute(path: str) -> str:
    """Return the name of an absolute path, because a bundle names no folders, and a relative path as it is."""
    return Path(path).name if Path(path).is_absolute() else path
