from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_compress.export.bit_packing import encode, fields, levels, pack, packed_bytes, unpack, zero_first

WIDTHS = (1, 2, 3, 4, 5, 6)
every_width = pytest.mark.parametrize("bits", WIDTHS)

SHAPES = st.one_of(
    st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),  # convolutions, odd channels
    st.tuples(st.integers(1, 17), st.just(1), st.just(3), st.just(3)),  # depthwise
    st.tuples(st.integers(1, 9), st.integers(1, 9)),  # linear
)


@every_width
def test_fields_add_up_to_the_width(bits: int) -> None:
    assert sum(fields(bits)) == bits and set(fields(bits)) <= {4, 2, 1}


def test_bytes_of_hand_worked_codes() -> None:
    # 3 bits: the upper two of each code in one array, lowest code first, the lower one in another
    codes = np.array([0b101, 0b010, 0b111, 0b000, 0b001], dtype=np.uint8)
    upper, lower = pack(codes, 3)
    assert upper.tolist() == [0b00_11_01_10, 0b00_00_00_00]
    assert lower.tolist() == [0b000_10101]
    assert [part.tolist() for part in pack(np.array([9, 3], dtype=np.uint8), 4)] == [[0x39, 0, 0, 0]]


@every_width
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_integers_of_any_shape_return(bits: int, data: st.DataObject) -> None:
    elements = st.sampled_from(levels(bits))
    integers = data.draw(arrays.arrays(np.int8, SHAPES, elements=elements))
    codes = encode(integers, levels(bits))
    parts = pack(codes, bits)
    back = np.array(levels(bits))[unpack(parts, bits, integers.size)].reshape(integers.shape)
    assert np.array_equal(back, integers)
    assert sum(part.nbytes for part in parts) == packed_bytes(integers.size, bits)


@pytest.mark.parametrize("bits", WIDTHS[1:])
def test_zero_has_the_code_that_is_left_out(bits: int) -> None:
    assert levels(bits)[0] == 0 and sorted(levels(bits)) == list(range(-(2 ** (bits - 1)), 2 ** (bits - 1)))
    shared = zero_first((5, -128, 0, 127))
    assert encode(np.array([[0, 5], [127, -128]]), shared).tolist() == [0, 2, 3, 1]
    assert zero_first((5, -1)) == (-1, 5)


@pytest.mark.parametrize(("bits", "integer"), [(1, 0), (2, 2), (3, -5), (4, 8)])
def test_integer_without_a_code_is_refused(bits: int, integer: int) -> None:
    with pytest.raises(ValueError, match="integers must be among"):
        encode(np.array([integer], dtype=np.int8), levels(bits))
