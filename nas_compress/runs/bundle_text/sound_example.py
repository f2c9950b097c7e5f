"""Code that runs a file on a sound, as the example of a bundle."""

from __future__ import annotations

from collections.abc import Sequence

from nas_compress.values.audio.log_mel import LogMel

SOUND_EXAMPLE = '''"""Classify sounds with this model; needs onnxruntime and numpy only.

`python example.py sound.wav` reads a .wav file of 16 bits, one channel and {rate} samples per second.
"""
import sys
import wave
{loader}

names = {names}
sound = np.zeros({samples}, dtype="int16")  # silence; a shorter sound ends in it, a longer one is cut
if len(sys.argv) > 1:
    with wave.open(sys.argv[1], "rb") as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, {rate}):
            sys.exit("a sound must have one channel of 16 bits and {rate} samples per second: ffmpeg -i IN "
                     "-ac 1 -ar {rate} -c:a pcm_s16le OUT.wav")
        read = np.frombuffer(file.readframes({samples}), dtype="<i2")
        sound[: len(read)] = read
(outputs,) = session.run([{output}], {{{name}: sound[None]}})
{shown}
'''

OF_SOUNDS = """sounds of
16 bits and {rate} samples per second, as a .wav file stores them. A shorter sound ends in zeros, a longer one is cut.
The spectrogram is made inside the file. The input is"""

SHOWN = """place = int(outputs[0].argmax())
print(names[place] if names else place, "logits", outputs[0].round(2).tolist())"""

SHOWN_VALUES = """print(outputs[0].round(2).tolist())"""


def sound_example(
    loader: str, input_name: str, output: str, *, log_mel: LogMel, samples: int, names: Sequence[str] | None
) -> str:
    """Return the example. loader: opens the file. Names are literals of Python.

    names: of the classes, empty if they are numbers; None for other outputs than classes.
    """
    return SOUND_EXAMPLE.format(
        loader=loader,
        rate=log_mel.rate,
        names=f"[{', '.join(names or ())}]",
        samples=samples,
        output=output,
        name=input_name,
        shown=SHOWN_VALUES if names is None else SHOWN,
    )
