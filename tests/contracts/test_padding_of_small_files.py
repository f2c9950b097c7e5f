"""The law of padding for files of few bits: no padding, neighbour or order of a batch changes an answer.

The reference of every answer is the file's own to one unpadded text. Files with float products answer the same, and so
do files with ranges from calibration. Files that find ranges while they run have other ranges for other batches: their
outputs change by less than a bound, and the class of every text stays whose outputs are further apart.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nas_compress.devices.onnx_session import open_session
from nas_compress.errors import RequestError
from nas_compress.export.onnx_file import export_onnx
from nas_compress.models.families import FAMILIES
from nas_compress.quantization.layer_bits import weight_layers
from nas_compress.quantization.quantize import quantize
from nas_compress.values.family_settings import family_settings
from padded_texts import EXACT, ROWS, TOKENS, Row, build, padded, texts

Answers = np.ndarray[Any, np.dtype[np.float32]]
SIX = 6
"""Bits of integer products instead of 8, with which no processor saturates."""

OWN_RANGES = 0.25
"""Largest change with ranges found at run time, in standard deviations of the answers; 0.15 was seen, with 2 bits."""


def finds_ranges(row: Row) -> bool:
    return row.family in ("encoder", "recurrent")


def has_integer_products(row: Row) -> bool:
    try:
        FAMILIES[row.family].require_activation_bits(8, family_settings(row.family, row.settings))
    except RequestError:
        return False
    return True


CASES = [
    pytest.param(row, bits, products, id=f"{row}, {bits} bits, {'integer' if products else 'float'} products")
    for row in ROWS
    for products in (False, True)
    for bits in (8, 4, 2)
    if not products or has_integer_products(row)
]


def test_every_cell_without_integer_products_is_known() -> None:
    assert {row.settings.get("cell") for row in ROWS if not has_integer_products(row)} == {"gru"}


@pytest.mark.parametrize(("row", "bits", "products"), CASES)
def test_padding_neighbours_and_order_change_no_answer(row: Row, bits: int, products: bool, tmp_path: Path) -> None:
    answers = answers_of_file(row, bits, products, tmp_path / "model.onnx")
    reference = np.concatenate([answers(text[None]) for text in texts()])
    bound = OWN_RANGES * float(reference.std()) if products and finds_ranges(row) else EXACT
    order = [3, 0, 4, 2, 1]
    second, first = np.sort(reference, axis=1)[:, -2:].T
    clear = first - second > 2 * bound
    assert clear.any(), "otherwise the classes show nothing"
    for further in (0, 1, 7):
        single = np.concatenate([answers(padded([text], further)) for text in texts()])
        batch = answers(padded(texts(), further))
        turned = answers(padded([texts()[place] for place in order], further))
        for found, wanted in ((single, reference), (batch, reference), (turned, reference[order])):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=bound)
        assert (batch.argmax(axis=1) == reference.argmax(axis=1))[clear].all()


def answers_of_file(row: Row, bits: int, products: bool, path: Path) -> Callable[[Tensor], Answers]:
    network, few = build(row), min(bits, SIX) if products else bits
    module = quantize(
        network,
        weight_bits=few,
        activation_bits=8 if products else 32,
        calibration={"input": padded(texts())},
        ranges="dynamic" if products and row.family == "encoder" else "min_max",
        layer_bits=dict.fromkeys(weight_layers(network), few),
    )
    export_onnx(module, TOKENS, path)
    session = open_session(path, signature=TOKENS)

    def answers(ids: Tensor) -> Answers:
        return np.asarray(session.run(None, {"input": ids.to(torch.int32).numpy()})[0])

    return answers
