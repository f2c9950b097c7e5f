"""Code of a bundle that runs a file with early exits."""

from __future__ import annotations

from collections.abc import Sequence

EARLY_EXITS = '''"""Classify one raw sample with this model; needs onnxruntime and numpy only.

The model stops at the first exit that is confident enough. `python example.py 0.9` sets another threshold for every
exit: a larger one is more accurate and slower, `inf` never stops early.
"""
import sys

{loader}
names = [{names}]
sample = np.zeros({shape}, dtype={dtype})  # put your own raw sample here; the model takes one at a time
inputs = {{{name}: sample}}
for threshold in session.get_overridable_initializers():
    if len(sys.argv) > 1:
        inputs[threshold.name] = np.array([float(sys.argv[1])], dtype=np.float32)
logits, taken = session.run([{output}, "exit"], inputs)
place = int(logits[0].argmax())
print("class", names[place] if names else place, "at exit", int(taken[0]), "logits", logits[0].round(2).tolist())
'''


def exits_example(
    loader: str, name: str, shape: tuple[int, ...], dtype: str, output: str, *, names: Sequence[str]
) -> str:
    """Return code that classifies one sample and prints the exit taken; the user may set the threshold.

    loader: code that opens the file. name, shape, dtype: of the input. output: name of the answers. names: words of the
    classes, if known. All names are literals of Python.
    """
    quiet = "options = onnxruntime.SessionOptions()\noptions.log_severity_level = 3  # thresholds are meant to change\n"
    options = loader.replace("session = onnxruntime", f"{quiet}session = onnxruntime").replace(
        'providers=["CPUExecutionProvider"]', 'options, providers=["CPUExecutionProvider"]'
    )
    return EARLY_EXITS.format(
        loader=options, names=", ".join(names), shape=shape, dtype=dtype, name=name, output=output
    )
