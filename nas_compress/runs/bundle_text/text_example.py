"""Code that runs a file on a text, as the example of a bundle."""

from __future__ import annotations

from collections.abc import Sequence

TEXT_EXAMPLE = '''"""Read texts with this model; needs onnxruntime and numpy only."""
{loader}

from word_pieces import WordPieces  # the file next to this one

pieces = WordPieces.from_metadata(session.get_modelmeta().custom_metadata_map)
text = "An unexpected pleasure."  # put your own text here
(outputs,) = session.run([{output}], {{{name}: np.array([pieces.encode(text)], dtype="int32")}})
{shown}
'''

HASHED_EXAMPLE = '''"""Read texts with this model; needs onnxruntime and numpy only."""
{loader}

text = "An unexpected pleasure."  # put your own text here
content = np.frombuffer(text.replace("\\0", " ").encode(errors="replace"), dtype="uint8")
(outputs,) = session.run([{output}], {{{name}: content[None]}})
{shown}
'''

SHOWN_CLASS = """print("class", int(outputs[0].argmax()), "of {classes}; logits", outputs[0].round(2).tolist())"""

SHOWN_NAME = """names = {names}
print(names[int(outputs[0].argmax())], dict(zip(names, outputs[0].round(2).tolist(), strict=True)))"""

SHOWN_VALUES = """print(outputs[0].round(2).tolist())"""

OF_SAMPLES = "raw samples as the data set stores\nthem"

OF_TEXTS = """ids of
word pieces with 0 as padding behind shorter texts. The file holds its vocabulary, whose bytes are part of its size.
word_pieces.py turns texts into ids, and vocab.txt is a copy of the vocabulary. The input is"""


OF_BYTES = """raw UTF-8 bytes
of texts with 0 behind shorter ones. The file finds and hashes their words itself, so it needs no vocabulary. The input
is"""


def text_example(
    loader: str, input_name: str, output: str, *, classes: int | None, names: Sequence[str], raw: bool = False
) -> str:
    """Return the example. loader: opens the file. classes: None for numbers. Names are literals of Python.

    raw: the file takes bytes instead of ids.
    """
    shown = SHOWN_VALUES
    if classes is not None:
        shown = SHOWN_NAME.format(names=f"[{', '.join(names)}]") if names else SHOWN_CLASS.format(classes=classes)
    template = HASHED_EXAMPLE if raw else TEXT_EXAMPLE
    return template.format(loader=loader, output=output, name=input_name, shown=shown)
