"""Tensors in files: a reader gets what was written, or an error that names the file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from nas_compress.errors import DamagedFileError
from nas_compress.teacher.tensor_file import digest_of_tensors, load_weights_, read_tensors, write_tensors

TENSORS = {
    "weights": torch.arange(12, dtype=torch.float32).view(3, 4),
    "count": torch.tensor(7),
    "halves": torch.ones(2, dtype=torch.bfloat16),
    "none": torch.empty(0, 3),
    "flags": torch.tensor([True, False]),
}


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "tensors.safetensors"
    write_tensors(path, TENSORS, about={"data": "0123"})
    file = read_tensors(path)
    assert file.about == {"data": "0123"} and file.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(file.tensors[name], tensor) for name, tensor in TENSORS.items())
    assert load_file(path).keys() == TENSORS.keys(), "other programs read the file too"
    first = path.read_bytes()
    write_tensors(path, dict(reversed(TENSORS.items())), about={"data": "0123"})
    assert path.read_bytes() == first
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "gone")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_byte_is_read_as_content(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "tensors.safetensors"
    write_tensors(path, TENSORS, about={"data": "0123"})
    content = bytearray(path.read_bytes())
    kind = data.draw(st.sampled_from(["flip", "cut", "add"]))
    place = data.draw(st.integers(0, len(content) - 1))
    if kind == "flip":
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    content = content[:place] if kind == "cut" else content + b"\0" if kind == "add" else content
    path.write_bytes(content)
    try:
        file = read_tensors(path)
    except DamagedFileError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:  # a change of the header's padding or notation
        assert digest_of_tensors(file.tensors, about=file.about) == digest_of_tensors(TENSORS, about={"data": "0123"})


def test_name_type_shape_and_about_enter_the_digest() -> None:
    known = digest_of_tensors(TENSORS)
    changes = [
        {**TENSORS, "weights": TENSORS["weights"].view(4, 3)},
        {**TENSORS, "weights": TENSORS["weights"].int()},
        {**TENSORS, "weights": TENSORS["weights"].view(torch.int32)},
        {("other" if name == "weights" else name): tensor for name, tensor in TENSORS.items()},
    ]
    assert len({known, digest_of_tensors(TENSORS, about={"a": "b"}), *map(digest_of_tensors, changes)}) == 6
    images = torch.randn(2, 3, 4, 5)
    assert digest_of_tensors({"x": images}) == digest_of_tensors({"x": images.to(memory_format=torch.channels_last)})


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"weight": torch.zeros(2, 2), "bias": torch.zeros(3)}, "holds another network"),
        ({"weight": torch.zeros(2, 3).double(), "bias": torch.zeros(2)}, "holds another network"),
        ({"weight": torch.zeros(2, 3)}, "holds another network"),
        ({"weight": torch.full((2, 3), torch.inf), "bias": torch.zeros(2)}, "holds weights that are not finite"),
    ],
)
def test_weights_that_do_not_fit_leave_the_network_as_it_was(
    state: dict[str, torch.Tensor], words: str, tmp_path: Path
) -> None:
    network = nn.Linear(3, 2)
    before = digest_of_tensors(network.state_dict())
    write_tensors(tmp_path / "net.safetensors", state)
    with pytest.raises(DamagedFileError, match=f"^{re.escape(str(tmp_path))}.* {words}$"):
        load_weights_(network, tmp_path / "net.safetensors")
    assert digest_of_tensors(network.state_dict()) == before
