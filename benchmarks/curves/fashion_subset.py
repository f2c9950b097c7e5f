"""A stratified part of Fashion-MNIST; a hundred candidates take ten minutes on a quiet core."""

import numpy as np

from nas_compress.data.dataset import Split
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.stratified_split import stratified_split

COUNT = 1_000
"""Number of images for training, and for validation."""

Samples = tuple[np.ndarray, np.ndarray]


def _parts(split: Split) -> tuple[Samples, Samples]:
    """Return COUNT samples with labels, and the remaining ones."""
    inputs, labels = split.inputs["input"].numpy(), split.targets["label"].numpy()
    first, rest = stratified_split(labels, counts=(COUNT, len(labels) - COUNT), seed=0)
    return (inputs[first], labels[first]), (inputs[rest], labels[rest])


def load() -> dict[str, Samples]:
    """Return parts of the training and validation splits; other validation images are held out and never read."""
    whole = load_dataset(name="fashion-mnist")
    train, _ = _parts(whole.train)
    validation, test = _parts(whole.validation)
    return {"train": train, "validation": validation, "test": test}
