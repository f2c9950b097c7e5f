"""Bundle of a front member: its file, candidate, figures and an example that runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from nas_compress.config.schema import StudySpec
from nas_compress.devices.onnx_session import file_signature
from nas_compress.devices.required_operators import required_operators
from nas_compress.errors import RequestError
from nas_compress.files import write_bytes, write_json, write_text
from nas_compress.runs.bundle_text.card import bundle_card, name_if_absolute
from nas_compress.runs.bundle_text.example import example_code
from nas_compress.runs.checks.model_files import read_model
from nas_compress.runs.examples.segmentation import segmentation_example
from nas_compress.runs.folder import RunFolder
<<<<<<< HEAD
from nas_compress.runs.records import Record, read_record, require_teacher
from nas_compress.runs.speed_notes import SIMULATION
from nas_compress.values.audio.example import OF_SOUNDS, sound_example
from nas_compress.values.exits.settings import EXIT
from nas_compress.values.exits.words import exits_in_markdown
from nas_compress.values.file_contract import FORMS
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.precision import SIMULATED
from nas_compress.values.signature import Signature, TensorSpec
from nas_compress.values.text import word_pieces
from nas_compress.values.text.example import OF_BYTES, OF_SAMPLES, OF_TEXTS, text_example

CLASSIFIER = '''"""Classify raw samples with this model; needs onnxruntime and numpy only."""
{loader}
samples = np.zeros({shape}, dtype={dtype})  # put your own raw samples here
(logits,) = session.run([{output}], {{{name}: samples}})
print("class", int(logits[0].argmax()), "of {classes}; logits", logits[0].round(2).tolist())
'''

NAMED_CLASSIFIER = '''"""Classify raw samples with this model; needs onnxruntime and numpy only."""
{loader}
names = {names}
samples = np.zeros({shape}, dtype={dtype})  # put your own raw samples here
(logits,) = session.run([{output}], {{{name}: samples}})
print(names[int(logits[0].argmax())], dict(zip(names, logits[0].round(2).tolist(), strict=True)))
'''

EXAMPLE = '''"""Run this model; needs onnxruntime and numpy only."""
{loader}
inputs = {{  # put your own samples here
{inputs}
}}
outputs = session.run({outputs}, inputs)
for name, values in zip({outputs}, outputs, strict=True):
    print(name, values[0].round(2).tolist())
'''

EARLY_EXITS = '''"""Classify one raw sample with this model; needs onnxruntime and numpy only.

The model stops at the first exit that is confident enough. `python example.py 0.9` sets another threshold for every
exit: a larger one is more accurate and slower, `inf` never stops early.
"""
import sys

{loader}
names = {names}
sample = np.zeros({shape}, dtype={dtype})  # put your own raw sample here; the model takes one at a time
inputs = {{{name}: sample}}
for threshold in session.get_overridable_initializers():
    if len(sys.argv) > 1:
        inputs[threshold.name] = np.array([float(sys.argv[1])], dtype=np.float32)
logits, taken = session.run([{output}, "exit"], inputs)
place = int(logits[0].argmax())
print("class", names[place] if names else place, "at exit", int(taken[0]), "logits", logits[0].round(2).tolist())
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
"""Code that opens the file, by its name."""

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
=======
from nas_compress.runs.records import Record, read_record
from nas_compress.values.signature import Signature
from nas_compress.values.text import word_pieces
>>>>>>> main


def export_bundles(folder: RunFolder, places: Mapping[int, Path]) -> list[Path]:
    """Write a bundle for each trial into its folder; after any error nothing is left of them.

    RequestError if a trial was not trained or a folder is not empty, DamagedFileError if a model is not the file that
    was measured.
    """
    for trial, out in places.items():
        read_model(folder, trained_record(folder, trial))
        _require_new(out)
    with ExitStack() as unfinished:
        for trial, out in places.items():
            unfinished.enter_context(_removed_on_error(out))
            export_bundle(folder, trial, out)
    return list(places.values())


def export_bundle(folder: RunFolder, trial: int, out: Path) -> None:
    """Write a trained trial's file, its candidate, figures, operators, README.md and example.py into a new folder.

    The file is read once, and exactly the bytes that have the recorded SHA-256 are written.
    """
    record = trained_record(folder, trial)
    content = read_model(folder, record)
    _require_new(out)
    about = folder.about()
    model = out / Path(record.model).name
    with _removed_on_error(out):
        write_bytes(model, content)
        write_json(
            out / "config.json",
            {
                "candidate": record.outcome.candidate.to_dict(),
                "params": dict(record.params),
                "study": _portable(folder.spec()),
                "seed": record.outcome.seed,
                "versions": dict(record.versions) or about["versions"],
            },
        )
        outcome = record.outcome.to_dict()
        keys = ("number_format", "measured", "architecture", "epochs", "losses", "seconds")
        write_json(
            out / "metrics.json",
            {
                "trial": trial,
                "machine": about["machine"],
                **({"devices": about["devices"]} if "devices" in about else {}),
                "sha256": hashlib.sha256(content).hexdigest(),
                **{key: outcome[key] for key in keys},
            },
        )
        signature = file_signature(model)
        example = example_code(signature, model.name, classes=about.get("classes"), names=_class_names(about))
        write_text(out / "example.py", example)
        _write_word_pieces(out, signature)
        write_text(out / "required_operators.config", required_operators(model))
        write_text(out / "README.md", bundle_card(folder, record, signature, example))


def _write_word_pieces(out: Path, signature: Signature) -> None:
    """Write the code that reads texts, and a copy of the vocabulary in the file for other tokenizers."""
    for spec in signature.inputs:
        if spec.pieces is not None:
            write_text(out / "word_pieces.py", Path(word_pieces.__file__).read_text(encoding="utf-8"))
            write_text(out / "vocab.txt", "".join(f"{piece}\n" for piece in spec.pieces.pieces))


def _portable(spec: StudySpec) -> dict[str, Any]:
    """Return the values of a study without absolute paths: only the names of such files remain."""
    values = spec.model_dump(mode="json")
    if spec.teacher.weights is not None:
        values["teacher"]["weights"] = name_if_absolute(spec.teacher.weights)
    if spec.teacher.hugging_face is not None:
        values["teacher"]["hugging_face"] = name_if_absolute(spec.teacher.hugging_face)
    for key in ("folder", "text"):
        if values["data"].get(key) is not None:
            values["data"][key] = name_if_absolute(values["data"][key])
    return {**values, "space": name_if_absolute(spec.space)}


def trained_record(folder: RunFolder, trial: int) -> Record:
    """Return the record of a trained trial; RequestError if it was not trained."""
    record = read_record(folder, trial)
    if record is None:
        state = "was not finished" if folder.trial(trial).is_dir() else "does not exist"
        raise RequestError(f"--trial must be a finished trial, but trial {trial} {state} in {folder.root}")
    if record.outcome.state != "trained":
        ended = f"{record.outcome.state}: {record.outcome.reason}"
        raise RequestError(f"--trial must be a trained trial, but trial {trial} ended as {ended}")
    return record


@contextmanager
def _removed_on_error(out: Path) -> Iterator[None]:
    """Create an empty folder; remove its content, and the folders made for it, if the block raises an error."""
    made = [place for place in (out, *out.parents) if not place.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in out.glob("*"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            for place in made:
                place.rmdir()
        raise


def _require_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"--out must be a new or empty folder, but {out} is not")


def _class_names(about: Mapping[str, Any]) -> Sequence[str]:
    """Return the words of the classes that run.json holds; none in runs of earlier versions and of numbered classes."""
    names = about.get("class_names")
    if not isinstance(names, list) or len(names) != about.get("classes"):
        return ()
    return tuple(map(str, names))
<<<<<<< HEAD


def example_code(signature: Signature, model: str, *, classes: int | None, names: Sequence[str] = ()) -> str:
    """Return the code that runs a file. classes: number of classes, None for other tasks. names: their words."""
    loader = LOADERS[model]
    if len(signature.inputs) == len(signature.outputs) == 1:
        (spec,), (output,) = signature.inputs, signature.outputs
        ends, words = (_literal(spec.name), _literal(output.name)), [*map(_literal, names)]
        known = classes if output.sample_shape == (classes,) else None
        if spec.pieces is not None or spec.words is not None:
            return text_example(loader, *ends, classes=known, names=words, raw=spec.words is not None)
        if spec.log_mel is not None:
            length, named = int(spec.shape[1]), words if known else None
            return sound_example(loader, *ends, log_mel=spec.log_mel, samples=length, names=named)
        if len(output.sample_shape) == 3:
            shape, dtype = _one_sample(spec), _literal(spec.dtype)
            return segmentation_example(loader, *ends, shape=shape, dtype=dtype, classes=int(output.sample_shape[0]))
    if EXIT in signature.output_names and len(signature.inputs) == 1:
        return _exits_code(signature, loader, names)
    outputs = [spec for spec in signature.outputs if spec.sample_shape == (classes,)]
    if len(signature.inputs) == len(signature.outputs) == len(outputs) == 1:
        (spec,), (output,) = signature.inputs, outputs
        return (NAMED_CLASSIFIER if names else CLASSIFIER).format(
            loader=loader,
            names=f"[{', '.join(map(_literal, names))}]",
            shape=_one_sample(spec),
            dtype=_literal(spec.dtype),
            name=_literal(spec.name),
            output=_literal(output.name),
            classes=output.sample_shape[0],
        )
    inputs = "\n".join(
        f"    {_literal(spec.name)}: np.zeros({_one_sample(spec)}, dtype={_literal(spec.dtype)}),"
        for spec in signature.inputs
    )
    outputs_list = f"[{', '.join(map(_literal, signature.output_names))}]"
    return EXAMPLE.format(loader=loader, inputs=inputs, outputs=outputs_list)


def _exits_code(signature: Signature, loader: str, names: Sequence[str]) -> str:
    (spec,), output = signature.inputs, next(each for each in signature.outputs if each.name != EXIT)
    quiet = "options = onnxruntime.SessionOptions()\noptions.log_severity_level = 3  # thresholds are meant to change\n"
    options = loader.replace("session = onnxruntime", f"{quiet}session = onnxruntime").replace(
        'providers=["CPUExecutionProvider"]', 'options, providers=["CPUExecutionProvider"]'
    )
    return EARLY_EXITS.format(
        loader=options,
        names=f"[{', '.join(map(_literal, names))}]",
        shape=_one_sample(spec),
        dtype=_literal(spec.dtype),
        name=_literal(spec.name),
        output=_literal(output.name),
    )


def _literal(text: str) -> str:
    """Return a text as a literal of Python. Every escape of JSON is one of Python too."""
    return json.dumps(text, ensure_ascii=False)


def _one_sample(spec: TensorSpec) -> tuple[int, ...]:
    """Return the shape of one sample; free dimensions have one entry."""
    return tuple(size if isinstance(size, int) else 1 for size in spec.shape)


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


def _card(folder: RunFolder, record: Record, signature: Signature, example: str) -> str:
    measured, teacher = record.outcome.measured, require_teacher(folder, [record])
    if measured is None:
        raise RequestError(f"trial {record.trial} has no figures in its record")
    others = {} if teacher is None else teacher.figures
    rows = "\n".join(
        f"| {name} | {_cell(name, measured.figures)} | {_cell(name, others)} |"
        for name in METRICS
        if name in measured.figures
    )
    inherited = record.outcome.candidate.pruning.init == "inherit"
    spec = folder.spec()
    words = augmentation_words(spec.data.model_dump())
    return CARD.format(
        file=quoted(Path(record.model).name),
        study=spec.name,
        trial=record.trial,
        samples=_samples_in_words(signature),
        start="trained from its teacher's weights" if inherited else "trained from scratch",
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
    samples = [_relative(path) for path in (spec.data.folder, spec.data.text) if path is not None]
    weights = [_relative(path) for path in (spec.teacher.weights, spec.teacher.hugging_face) if path is not None]
    functions = (spec.data.factory, spec.data.augment, spec.teacher.factory, *spec.metric_functions)
    modules = [name.partition(":")[0] for name in functions if name is not None]
    names = ", ".join(map(quoted, dict.fromkeys([*modules, *samples, *weights])))
    return f" It needs {names} next to config.json or in the working folder." if names else ""


def _cell(name: str, figures: Mapping[str, float]) -> str:
    return METRICS[name].cell(figures[name]) if name in figures else ""
=======
>>>>>>> main
