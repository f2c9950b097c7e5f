"""Laws of all families of token ids: padding and neighbours never change an answer, in the module and in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_compress.devices.onnx_session import open_session
from nas_compress.errors import RequestError
from nas_compress.export.onnx_file import export_onnx
from nas_compress.models.families import FAMILIES, require_fitting
from padded_texts import EXACT, ROWS, TOKENS, Row, alone, build, every_row, padded, texts


def test_every_family_of_token_ids_has_a_row() -> None:
    assert {row.family for row in ROWS} == {name for name, family in FAMILIES.items() if family.fits(TOKENS)}


@every_row
def test_the_answers_differ(row: Row) -> None:
    answers = alone(build(row))
    assert answers.std(dim=0).min() > 0.01, "otherwise the other laws show nothing"


@every_row
@pytest.mark.parametrize("further", [0, 1, 7])
def test_padding_and_neighbours_change_no_answer(row: Row, further: int) -> None:
    network = build(row)
    with torch.no_grad():
        torch.testing.assert_close(network(padded(texts(), further)), alone(network), atol=EXACT, rtol=EXACT)


@every_row
def test_another_order_of_a_batch_gives_the_answers_in_that_order(row: Row) -> None:
    network, order = build(row), torch.tensor([3, 0, 4, 2, 1])
    with torch.no_grad():
        found = network(padded([texts()[place] for place in order]))
    torch.testing.assert_close(found, alone(network)[order], atol=EXACT, rtol=EXACT)


@every_row
def test_padding_changes_no_gradient(row: Row) -> None:
    found = []
    for further in (0, 5):
        network = build(row)
        network(padded(texts(), further)).square().sum().backward()
        found.append([value.grad for value in network.parameters() if value.grad is not None])
    for short, long in zip(*found, strict=True):
        torch.testing.assert_close(short, long, atol=1e-3 * max(1.0, float(long.abs().max())), rtol=1e-4)


@every_row
def test_the_file_takes_any_number_of_texts_of_any_length(row: Row, tmp_path: Path) -> None:
    network = build(row)
    export_onnx(network, TOKENS, tmp_path / "model.onnx")
    session = open_session(tmp_path / "model.onnx", signature=TOKENS)
    (given,) = session.get_inputs()
    assert given.type == "tensor(int32)" and all(isinstance(size, str) for size in given.shape)

    def answers(ids: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.asarray(session.run(None, {"input": ids.numpy()})[0])

    wanted = alone(network).numpy()
    np.testing.assert_allclose(np.concatenate([answers(text[None]) for text in texts()]), wanted, atol=EXACT)
    for further in (0, 6):
        np.testing.assert_allclose(answers(padded(texts(), further)), wanted, atol=EXACT)


@every_row
def test_it_learns_from_padded_texts(row: Row) -> None:
    network, labels = build(row).train(), torch.tensor([0, 1, 2, 0, 1])
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(network(padded(texts())), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_families_of_images_are_refused_for_token_ids() -> None:
    with pytest.raises(RequestError, match=r"fitting families: .*text_bag, text_cnn.*pruned"):
        require_fitting("resnet", TOKENS)
