"""The compressed form of a file: smaller, whole, and the same model to the runtime."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_files import export_images, image_steps, predict_logits
from nas_compress.devices.onnx_session import open_session, read_content
from nas_compress.errors import RequestError
from nas_compress.export.weight_formats import STEPS, Layout
from nas_compress.export.xz_container import compress
from nas_compress.measurement.graph_key import structure_key
from nas_compress.quantization.quantize import quantize
from nas_compress.training.sparsity import with_zeros


@settings(max_examples=20, deadline=None)
@given(content=st.binary(max_size=500))
def test_what_went_in_comes_out(content: bytes) -> None:
    assert lzma.decompress(compress(content)) == content and compress(content) == compress(content)


def test_bytes_of_few_values_take_little_more_than_their_entropy() -> None:
    chances = np.array([0.8, 0.1, 0.05, 0.05])
    content = np.random.default_rng(0).choice(4, 40_000, p=chances).astype(np.uint8).tobytes()
    entropy = -float((chances * np.log2(chances)).sum()) * len(content) / 8
    assert entropy < len(compress(content)) < 1.3 * entropy


@pytest.mark.parametrize("bits", [(4, 8), (32, 32)], ids=str)
def test_a_compressed_file_is_the_same_model(make_network, digits, tmp_path: Path, bits: tuple[int, int]) -> None:
    network = with_zeros(make_network("resnet", shrink=2), pattern="one_shot", fraction=0.8)
    module = quantize(network, weight_bits=bits[0], activation_bits=bits[1], calibration={"input": digits.train[:64]})
    plain, coded = tmp_path / "model.onnx", tmp_path / "model.onnx.xz"
    for path in (plain, coded):
        export_images(module, (1, 8, 8), path, layout=Layout(sparse=path == coded))
    samples = digits.held_out.numpy()
    assert np.array_equal(predict_logits(plain, samples), predict_logits(coded, samples))
    assert structure_key(plain) == structure_key(coded)
    steps = image_steps(module, (1, 8, 8))
    assert list(steps) == list(STEPS) and steps["packed"] == plain.stat().st_size
    sizes = [*steps.values(), coded.stat().st_size]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.5 * sizes[0]
    assert len(read_content(coded)) > coded.stat().st_size

    coded.write_bytes(coded.read_bytes()[:-30])
    with pytest.raises(RequestError, match="a compressed model file must be whole, but got"):
        open_session(coded)
