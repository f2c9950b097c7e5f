"""Rows without their zeros: by hand, by law, and by the runtime itself."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from nas_compress.export.bit_packing import GROUP
from nas_compress.export.sparse_encoding import GAP_BITS, Form, gaps_and_values, smallest_form
from nas_compress.export.unpack_nodes import Stream, TensorStore, spread

KINDS = {"mask": Form(kind="mask", size_bytes=0), "dense": Form(kind="dense", size_bytes=0)} | {
    f"gaps of {bits}": Form(kind="gaps", size_bytes=0, gap_bits=bits) for bits in GAP_BITS
}
ROWS = st.integers(1, 200).flatmap(
    lambda count: arrays.arrays(np.uint8, count, elements=st.sampled_from([0, 0, 0, 0, 0, 0, 1, 3]))
)


def test_gaps_by_hand() -> None:
    # two bits reach 3 places at most: a 0 is kept at place 2 on the way from the start to 4, and one at 7
    gaps, values = gaps_and_values(np.array([0, 0, 0, 0, 9, 0, 0, 0, 5, 0], dtype=np.int8), 2)
    assert gaps.tolist() == [3, 2, 3, 1, 0, 0, 0, 0]
    assert values.tolist() == [0, 9, 0, 5, 5, 5, 5, 5]


@settings(max_examples=80, deadline=None)
@given(row=ROWS, bits=st.sampled_from(GAP_BITS))
def test_gaps_lead_to_every_number(row: np.ndarray, bits: int) -> None:
    gaps, values = gaps_and_values(row, bits)
    found = np.zeros(len(row) + 1, dtype=row.dtype)
    found[np.cumsum(gaps, dtype=np.int64)] = values
    assert np.array_equal(found[1:], row)
    assert len(gaps) % GROUP == 0 and gaps.max() < 2**bits


@pytest.mark.parametrize(("zeros", "kind"), [(0.1, "dense"), (0.5, "mask"), (0.9, "gaps")])
def test_the_form_follows_the_zeros(zeros: float, kind: str) -> None:
    row = (np.random.default_rng(0).random(40_000) >= zeros).astype(np.int8)
    assert smallest_form(row, 4).kind == kind


def test_few_numbers_are_not_worth_the_nodes() -> None:
    assert smallest_form(np.zeros(400, dtype=np.int8), 4).kind == "dense"


def runtime_answer(stream: Stream, form: Form) -> tuple[np.ndarray, int]:
    """What onnxruntime makes of a stream, without what lies around it, and the bytes of the model."""
    graph = helper.make_graph([], "n", [], [])
    nodes, name, (before, after) = spread(stream, form, TensorStore(graph))
    graph.node.extend([*nodes, helper.make_node("Identity", [name], ["out"])])
    kind = helper.np_dtype_to_tensor_dtype(stream.values.dtype)
    graph.output.append(helper.make_tensor_value_info("out", kind, [None]))
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()
    (found,) = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {})
    return found[before : len(found) - after], len(content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("bits", "dtype"), [(3, np.uint8), (8, np.int8), (16, np.float16), (32, np.float32)])
def test_the_runtime_puts_the_zeros_back(kind: str, bits: int, dtype: type[np.generic]) -> None:
    generator = np.random.default_rng(bits)
    for count, zeros in ((1, 1.0), (8, 0.0), (1001, 0.9)):
        values = generator.integers(1, 2 ** min(bits, 7), count)
        row = np.where(generator.random(count) < zeros, 0, values).astype(dtype)
        found, _ = runtime_answer(Stream(name="row", values=row, bits=bits), KINDS[kind])
        assert found.dtype == row.dtype and np.array_equal(found, row)


@pytest.mark.parametrize("every", [3, 10])
def test_the_bytes_are_those_that_the_choice_counts_with(every: int) -> None:
    row = (np.arange(40_000) % every == 0).astype(np.uint8)
    stream = Stream(name="row", values=row, bits=4)
    sizes = [runtime_answer(stream, form)[1] for form in (KINDS["dense"], stream.form)]
    assert stream.form.size_bytes == pytest.approx(sizes[1] - (sizes[0] - 20_000), abs=400)
