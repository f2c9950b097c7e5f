"""Peaks of small graphs, worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas_compress.measurement.memory.liveness import ONNXRUNTIME, PORTABLE, Rules, Size, Step, peak_bytes


def step(operator: str, reads: str, write: str, *, inner: int = 0) -> Step:
    return Step(operator=operator, reads=tuple(reads), writes=(write,), inner=inner)


def peak(steps: Sequence[Step], counts: Mapping[str, int], rules: Rules, *, loose: str = "") -> int:
    sizes = {name: Size(shape=(count,), width=1, fixed=name not in loose) for name, count in counts.items()}
    return peak_bytes(steps, sizes, inputs=["x"], outputs=[steps[-1].writes[0]], rules=rules)


def test_a_tensor_lives_to_its_last_reader() -> None:
    residual = [step("Conv", "x", "a"), step("Conv", "a", "b"), step("Add", "ab", "c"), step("Conv", "c", "z")]
    counts = {"x": 1, "a": 10, "b": 10, "c": 10, "z": 2}
    assert peak(residual, counts, PORTABLE) == 30  # a, b and c
    assert peak(residual, counts, ONNXRUNTIME) == 1 + 30 + 2  # the caller keeps x; z has a buffer of its own


def test_the_input_is_free_after_its_last_reader_if_the_caller_does_not_keep_it() -> None:
    chain = [step("Conv", "x", "a"), step("Conv", "a", "b"), step("Conv", "b", "z")]
    assert peak(chain, {"x": 100, "a": 1, "b": 50, "z": 1}, PORTABLE) == 101


def test_views_share_the_buffer_of_their_input() -> None:
    views = [step("Conv", "x", "a"), step("Reshape", "a", "b"), step("Flatten", "b", "c"), step("Gemm", "ac", "z")]
    assert peak(views, {"x": 1, "a": 20, "b": 20, "c": 20, "z": 3}, PORTABLE) == 23


def test_onnxruntime_overwrites_an_input_without_other_readers_but_not_in_arithmetic() -> None:
    counts = {"x": 1, "a": 10, "b": 10, "z": 1}
    for operator, expected in (("Relu", 10), ("Softmax", 10), ("Exp", 20), ("Mul", 20)):
        chain = [step("Conv", "x", "a"), step(operator, "a", "b"), step("Conv", "b", "z")]
        assert peak(chain, counts, ONNXRUNTIME) == 1 + expected + 1, operator
    read_later = [step("Conv", "x", "a"), step("Relu", "a", "b"), step("Mul", "ab", "c"), step("Conv", "c", "z")]
    assert peak(read_later, {**counts, "c": 10}, ONNXRUNTIME) == 1 + 30 + 1


def test_a_shape_unknown_before_a_run_is_neither_overwritten_nor_recycled() -> None:
    chain = [step("Conv", "x", "a"), step("Softmax", "a", "b"), step("Conv", "b", "z")]
    counts = {"x": 1, "a": 10, "b": 10, "z": 1}
    assert peak(chain, counts, ONNXRUNTIME, loose="ab") == 1 + 20 + 1


def test_a_recycled_buffer_stays_allocated_between_its_tensors() -> None:
    chain = [step("Conv", "x", "a"), step("Conv", "a", "b"), step("Conv", "b", "c"), step("Conv", "c", "d")]
    counts = {"x": 1, "a": 10, "b": 5, "c": 6, "d": 10, "z": 1}
    nodes = [*chain, step("Conv", "d", "z")]
    assert peak(nodes, counts, ONNXRUNTIME) == 1 + 10 + 5 + 6 + 1  # a's buffer waits for d
    assert peak(nodes, {**counts, "d": 9}, ONNXRUNTIME) == 1 + 15 + 1  # c takes the gap of a


def test_gaps_too_small_for_a_tensor_count() -> None:
    chain = [step("Conv", "x", "a"), step("Conv", "a", "b"), step("Conv", "b", "c"), step("Conv", "c", "z")]
    counts = {"x": 1, "a": 10, "b": 12, "c": 11, "z": 1}
    assert peak(chain, counts, PORTABLE) == 23  # b and c
    assert peak(chain, counts, ONNXRUNTIME) == 1 + (10 + 12 + 11) + 1  # c does not fit in the gap of a


def test_a_tensor_that_nothing_reads_lives_during_its_node_only() -> None:
    nodes = [Step(operator="Split", reads=("x",), writes=("a", "b")), step("Conv", "a", "c"), step("Conv", "c", "z")]
    assert peak(nodes, {"x": 1, "a": 4, "b": 50, "c": 40, "z": 1}, PORTABLE) == 55


def test_the_memory_of_branches_is_added_during_their_node() -> None:
    nodes = [step("Conv", "x", "a"), step("If", "a", "b", inner=100), step("Conv", "b", "z")]
    assert peak(nodes, {"x": 1, "a": 4, "b": 5, "z": 1}, PORTABLE) == 109
