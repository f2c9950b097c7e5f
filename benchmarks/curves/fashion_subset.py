"""A stratified part of Fashion-MNIST: so small that a hundred candidates take a quiet core ten minutes."""

import numpy as np

from nas_compress.data.dataset import Split
from nas_compress.data.loading import load_dataset
from nas_compress.data.stratified_split import stratified_split

COUNT = 1_000
"""Images for training and for validation."""

Samples = tuple[np.ndarray, np.ndarray]


def _parts(split: Split) -> tuple[Samples, Samples]:
    """COUNT samples with their labels, and the others."""
    inputs, labels = split.inputs["input"].numpy(), split.targets["label"].numpy()
    first, rest = stratified_split(labels, counts=(COUNT, len(labels) - COUNT), seed=0)
    return (inputs[first], labels[first]), (inputs[rest], labels[rest])


def load() -> dict[str, Samples]:
    """Parts of the training and the validation split; the other validation images are held out, and never read."""
    whole = load_dataset(name="fashion-mnist")
    train, _ = _parts(whole.train)
    validation, test = _parts(whole.validation)
    return {"train": train, "validation": validation, "test": test}
