"""Lines of a bundle's example that read a picture as the training pictures were read."""

from __future__ import annotations

from nas_compress.values.signature import TensorSpec

MODES = {1: "L", 3: "RGB"}
"""Pillow's mode by number of channels."""

READING = """if len(sys.argv) > 1:  # python example.py photo.jpg needs Pillow too
    from PIL import Image, ImageOps

    with Image.open(sys.argv[1]) as picture:
        picture.draft("{mode}", ({twice}, {twice}))
        whole = picture.convert("RGBA") if picture.mode in ("P", "PA") else picture
        square = ImageOps.fit(
            ImageOps.exif_transpose(whole.convert("{mode}")), ({size}, {size}), method=Image.Resampling.BILINEAR
        )
    samples = np.asarray(square, dtype=np.uint8).reshape({size}, {size}, {channels}).transpose(2, 0, 1)[None]
"""

PLACE = "  # put your own raw samples here\n"
"""End of the line of an example that makes its samples."""


def with_picture(example: str, spec: TensorSpec) -> str:
    """Return an example that also reads a picture, cropped about its middle and resized; others stay as they are.

    spec: of the model's input.
    """
    sides = spec.sample_shape
    if (
        spec.dtype != "uint8"
        or len(sides) != 3
        or sides[1] != sides[2]
        or sides[0] not in MODES
        or PLACE not in example
    ):
        return example
    channels, size = int(sides[0]), int(sides[2])
    lines = READING.format(mode=MODES[channels], size=size, twice=2 * size, channels=channels)
    imported = example.replace("from pathlib import Path\n", "import sys\nfrom pathlib import Path\n", 1)
    return imported.replace(PLACE, f"{PLACE}{lines}", 1)
