"""Networks of every family of token ids, and texts of several lengths, for laws about padding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_compress.models.families import FAMILIES, build_student
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.family_settings import family_settings
from nas_compress.values.signature import Signature

VOCABULARY = 30
TOKENS = Signature.of_tokens(vocabulary=VOCABULARY, classes=3)
LENGTHS = (4, 1, 9, 2, 9)
EXACT = 1e-5


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network to test; a family of token ids needs at least one row."""

    family: str
    depths: tuple[int, ...] = (1,)
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join(map(str, (self.family, self.depths, *self.settings.values())))


ROWS = (
    Row(family="text_bag"),
    Row(family="text_bag", depths=(3,)),
    Row(family="text_cnn"),
    Row(family="text_cnn", depths=(2,), settings={"kernel_sizes": (2, 5)}),
    Row(family="recurrent", depths=(2,)),
    Row(family="recurrent", settings={"cell": "gru", "pooling": "last"}),
    Row(family="encoder", depths=(2,)),
)

every_row = pytest.mark.parametrize("row", ROWS, ids=str)


def build(row: Row) -> nn.Module:
    torch.manual_seed(1)
    family, settings = FAMILIES[row.family], family_settings(row.family, row.settings)
    layers = [layer for layer, _ in family.layers(row.depths, family.base_widths, settings)]
    multiples = family.multiples(layers, settings)
    widths = tuple(
        Width(layer=layer, asked=0.0, channels=multiples.get(layer, 1) * (4 + number))
        for number, layer in enumerate(layers)
    )
    architecture = Architecture(
        family=row.family, signature=TOKENS, normalisation={}, depths=row.depths, widths=widths, settings=settings
    )
    network = build_student(family.complete(architecture)).eval()
    with torch.no_grad():
        for value in network.parameters():
            if value.ndim > 1:
                value.mul_(3)  # answers that differ
    return network


def texts() -> list[Tensor]:
    drawn = torch.Generator().manual_seed(2)
    return [torch.randint(1, VOCABULARY, (length,), generator=drawn, dtype=torch.int32) for length in LENGTHS]


def padded(rows: list[Tensor], further: int = 0) -> Tensor:
    return nn.functional.pad(nn.utils.rnn.pad_sequence(rows, batch_first=True), (0, further))


def alone(network: nn.Module) -> Tensor:
    """The answers to one unpadded text at a time: the reference of every other."""
    with torch.no_grad():
        return torch.cat([network(text[None]) for text in texts()])
