"""SST-2 (Socher et al. 2013): sentences of film reviews, found on this machine and verified."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from nas_compress.callbacks import Notice
from nas_compress.data.assemble import Parts
from nas_compress.data.fashion_mnist import found_content, search_folders
from nas_compress.data.text.parts import Texts, TextSettings, text_parts
from nas_compress.errors import RunError

CONTENT: Mapping[str, tuple[str, str]] = {
    "train": ("train.csv", "6003623bcb35aad3a446a265b8931b7ccab61fcc10f2e9c1fec916ff67c7be35"),
    "validation": ("dev.csv", "f34c4987fea208fefc2d62a1b42c83a766cbfc7ce58c2a878ef953cf91f01729"),
    "test": ("test.csv", "519cea7ed4d22fe7ec4eccbb3d5ba6d88902a3b15ce129f476aa8364463a9fc7"),
}
"""File of each split with the columns `label` (0 or 1) and `sentence`, and the SHA-256 of its content."""


def read_sst2(
    seed: int, *, settings: TextSettings, unlabelled: Sequence[str] = (), where: str, notice: Notice
) -> Parts:
    """Return the sentences as word pieces; the split is that of the data set.

    unlabelled: further texts without labels. RunError if a file is missing.
    """
    splits = {split: _texts(file, sha256) for split, (file, sha256) in CONTENT.items()}
    return text_parts(
        name="sst2",
        splits=splits,
        settings=settings,
        unlabelled=unlabelled,
        seed=seed,
        where=where,
        notice=notice,
    )


def _texts(file: str, sha256: str) -> Texts:
    folders = search_folders("sst2")
    content = found_content(file, sha256, folders)
    if content is None:
        looked = ", ".join(map(str, folders))
        raise RunError(
            f"{file}[.gz] of SST-2, with SHA-256 {sha256[:12]}…, must be in one of the folders {looked} "
            "(NAS_COMPRESS_DATA adds one), but is in none"
        )
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    return [row["sentence"] for row in rows], np.array([int(row["label"]) for row in rows])
