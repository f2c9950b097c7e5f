"""Example that writes the class of each pixel as a picture."""

from __future__ import annotations

SEGMENTER = '''"""Write the class of each pixel as a picture; needs onnxruntime and numpy only."""
{loader}
images = np.zeros({shape}, dtype={dtype})  # put your own raw image here
(logits,) = session.run([{output}], {{{name}: images}})
mask = logits[0].argmax(axis=0).astype("uint8")
greys = mask * np.uint8(255 // {last})
Path("mask.pgm").write_bytes(b"P5 %d %d 255\\n" % mask.shape[::-1] + greys.tobytes())
print("mask.pgm has the classes", np.unique(mask).tolist(), "of {classes}")
'''


def segmentation_example(
    loader: str, input_name: str, output: str, *, shape: tuple[int, ...], dtype: str, classes: int
) -> str:
    """Return the example. loader: opens the file. shape: of one sample. Names and the type are literals of Python."""
    return SEGMENTER.format(
        loader=loader,
        shape=shape,
        dtype=dtype,
        name=input_name,
        output=output,
        classes=classes,
        last=max(1, classes - 1),
    )
