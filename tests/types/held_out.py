"""Search code that reaches for the test split: the type checker refuses both lines, else it calls an ignore unused."""

from nas_compress.data.dataset import Dataset, Split


def train(split: Split) -> None:
    """Any function of the search."""


def search(data: Dataset) -> None:
    """What a trial is given."""
    train(data.validation)
    train(data.test)  # type: ignore[arg-type]
    data.test.inputs  # type: ignore[attr-defined]  # noqa: B018
