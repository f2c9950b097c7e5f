"""Code that runs the file of a bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence

from nas_compress.runs.bundle_text.exits_example import exits_example
from nas_compress.runs.bundle_text.sound_example import sound_example
from nas_compress.runs.bundle_text.text_example import text_example
from nas_compress.values.exits.settings import EXIT, Exits
from nas_compress.values.file_constants import FORMS
from nas_compress.values.signature import Signature, TensorSpec

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

SEGMENTER = '''"""Write the class of each pixel as a picture; needs onnxruntime and numpy only."""
{loader}
images = np.zeros({shape}, dtype={dtype})  # put your own raw image here
(logits,) = session.run([{output}], {{{name}: images}})
mask = logits[0].argmax(axis=0).astype("uint8")
greys = mask * np.uint8(255 // {last})
Path("mask.pgm").write_bytes(b"P5 %d %d 255\\n" % mask.shape[::-1] + greys.tobytes())
print("mask.pgm has the classes", np.unique(mask).tolist(), "of {classes}")
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


def example_code(
    signature: Signature, model: str, *, classes: int | None, names: Sequence[str] = (), exits: Exits | None = None
) -> str:
    """Return the code that runs a file.

    classes: number of classes, None for other tasks. names: their words. exits: of the candidate.
    """
    loader = LOADERS[model]
    if len(signature.inputs) == len(signature.outputs) == 1:
        special = _text_or_sound(signature, loader, classes=classes, names=names)
        if special is not None:
            return special
    if len(signature.inputs) == len(signature.outputs) == 1 and len(signature.outputs[0].sample_shape) == 3:
        (spec,), (output,) = signature.inputs, signature.outputs
        count = int(output.sample_shape[0])
        return SEGMENTER.format(
            loader=loader,
            shape=_one_sample(spec),
            dtype=_literal(spec.dtype),
            name=_literal(spec.name),
            output=_literal(output.name),
            classes=count,
            last=max(1, count - 1),
        )
    if exits is not None:
        return _exits_code(signature, loader, exits, names)
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


def _text_or_sound(signature: Signature, loader: str, *, classes: int | None, names: Sequence[str]) -> str | None:
    (spec,), (output,) = signature.inputs, signature.outputs
    ends, known = (_literal(spec.name), _literal(output.name)), classes if output.sample_shape == (classes,) else None
    words = [*map(_literal, names)]
    if spec.pieces is not None or spec.words is not None:
        return text_example(loader, *ends, classes=known, names=words, raw=spec.words is not None)
    if spec.log_mel is not None:
        length, named = int(spec.shape[1]), None if known is None else words
        return sound_example(loader, *ends, log_mel=spec.log_mel, samples=length, names=named)
    return None


def _exits_code(signature: Signature, loader: str, exits: Exits, names: Sequence[str]) -> str:
    (spec,), output = signature.inputs, next(each for each in signature.outputs if each.name != EXIT)
    zeros = None if spec.pieces is not None else f"np.zeros({_one_sample(spec)}, dtype={_literal(spec.dtype)})"
    ends = _literal(spec.name), _literal(output.name)
    return exits_example(loader, *ends, exits, zeros=zeros, names=[*map(_literal, names)])


def _literal(text: str) -> str:
    """Return a text as a literal of Python. Every escape of JSON is one of Python too."""
    return json.dumps(text, ensure_ascii=False)


def _one_sample(spec: TensorSpec) -> tuple[int, ...]:
    """Return the shape of one sample; free dimensions have one entry."""
    return tuple(size if isinstance(size, int) else 1 for size in spec.shape)
