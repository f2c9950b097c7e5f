"""Splits of a folder of pictures, as parts of a data set."""

from __future__ import annotations

from nas_compress.callbacks import Notice, Progress
from nas_compress.data.assemble import Parts
from nas_compress.data.store.class_folders import ClassFolders, divided, require_samples, stored_splits
from nas_compress.data.store.pictures import PictureSource
from nas_compress.tasks.classification import IMAGES, Classification
from nas_compress.values.file_constants import INPUT_NAME
from nas_compress.values.signature import BATCH, TensorSpec

DEFAULT_SIZE = 64
"""Pixels of a side if the study names none."""


def read_pictures(
    folder: ClassFolders, *, name: str, size: int, seed: int, where: str, progress: Progress, notice: Notice
) -> Parts:
    """Return the pictures as uint8 (N, C, size, size) with their classes, decoded once into a store.

    seed: of the division if there are no folders of splits. RequestError with the name of a broken picture.
    """
    source = PictureSource(root=str(folder.root), files=folder.files, labels=folder.labels, size=size, where=where)
    given = stored_splits(
        folder,
        source,
        key=source.identity(folder.states)[:16],
        name="pictures",
        kind="pictures",
        where=where,
        progress=progress,
        notice=notice,
    )
    samples = divided(given, seed=seed)
    require_samples(samples, folder.class_names, where)
    spec = TensorSpec(name=INPUT_NAME, dtype="uint8", shape=(BATCH, *given["train"][0][INPUT_NAME].shape[1:]))
    classes = folder.class_names
    return Parts(
        name=name,
        task=Classification(inputs=(spec,), classes=len(classes), name=IMAGES, class_names=classes),
        train=samples["train"],
        validation=samples["validation"],
        test=samples["test"],
        numeric=(INPUT_NAME,),
    )
