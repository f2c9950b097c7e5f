"""Code that runs a file with early exits, as the example of a bundle."""

from __future__ import annotations

from collections.abc import Sequence

from nas_compress.values.exits.settings import PATIENCE, Exits

EARLY_EXITS = '''"""Classify one sample with this model; needs onnxruntime and numpy only.

The model stops at the first exit that is confident enough. `python example.py {example}` sets another threshold for
every exit, and {several}. A larger one is more accurate and slower, `inf` never stops early.
"""
import sys

{loader}
{sample}
names = {names}
inputs = {{{name}: sample}}
exits = [threshold.name for threshold in session.get_overridable_initializers()]
given = sys.argv[1:]
if len(given) not in {counts}:
    sys.exit(f"thresholds must be {words}, but got {{len(given)}}")
for name, word in zip(exits, given * len(exits) if len(given) == 1 else given):
    try:
        value = float(word)
    except ValueError:
        sys.exit(f"a threshold must be a number, but got {{word!r}}")
    if not ({lowest} <= value <= {highest} or value == float("inf")):
        sys.exit(f"{lowest} <= threshold <= {highest} must hold, or inf for no exit, but got {{value}}")
    inputs[name] = np.array([value], dtype=np.float32)
logits, taken = session.run([{output}, "exit"], inputs)
place = int(logits[0].argmax())
shown = logits[0].astype(float).round(2).tolist()
print("class", names[place] if names else place, "at exit", int(taken[0]), "logits", shown)
'''

OF_ZEROS = """sample = {zeros}  # put your own raw sample here; the model takes one at a time"""

OF_TEXT = """
from word_pieces import WordPieces  # the file next to this one

pieces = WordPieces.from_metadata(session.get_modelmeta().custom_metadata_map)
text = "An unexpected pleasure."  # put your own text here; the model takes one at a time
sample = np.array([pieces.encode(text)], dtype="int32")"""

QUIET = """options = onnxruntime.SessionOptions()
options.log_severity_level = 3  # thresholds are meant to change
"""


def exits_example(
    loader: str, input_name: str, output: str, exits: Exits, *, zeros: str | None, names: Sequence[str]
) -> str:
    """Return the example. Names are literals of Python.

    loader: opens the file. zeros: code of a raw sample; None for a text. names: of the classes, empty for numbers.
    """
    lowest, highest = ("-1e30", "1e30") if exits.confidence == "hinge" else exits.threshold_range
    options = loader.replace("session = onnxruntime", f"{QUIET}session = onnxruntime").replace(
        'providers=["CPUExecutionProvider"]', 'options, providers=["CPUExecutionProvider"]'
    )
    sample = OF_TEXT if zeros is None else OF_ZEROS.format(zeros=zeros)
    count = len(exits.after)
    one = count == 1 or exits.confidence == PATIENCE
    return EARLY_EXITS.format(
        loader=options,
        several="there is one for all exits" if one else f"{count} numbers set one for each",
        counts="(0, 1)" if one else f"(0, 1, {count})",
        words="one number" if one else f"one number for all exits, or {count}",
        sample=sample,
        names=f"[{', '.join(names)}]",
        name=input_name,
        output=output,
        lowest=lowest,
        highest=highest,
        example="2" if exits.confidence == PATIENCE else "0.9",
    )
