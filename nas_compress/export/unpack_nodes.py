"""Numbers stored as one row of bytes, and the standard ONNX operators that restore them.

onnxruntime folds these operators at load time, so it runs the same graph as for a file of separate numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas_compress.export.bit_packing import fields, pack, shifts
from nas_compress.export.graph_edits import Array, initialisers
from nas_compress.export.sparse_encoding import Form, gaps_and_values, smallest_form

Nodes = list[onnx.NodeProto]


class TensorStore:
    """Reads and adds the initialisers of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph, self._known = graph, initialisers(graph)

    def array(self, name: str) -> Array:
        """Return the values of a stored tensor."""
        return numpy_helper.to_array(self._known[name])

    def keep(self, name: str, values: Array) -> str:
        """Store values under a new name, or one already used for the same values; return the name."""
        return self.add(numpy_helper.from_array(np.ascontiguousarray(values), name))

    def add(self, tensor: onnx.TensorProto) -> str:
        """Store a tensor; return its name."""
        if tensor.name not in self._known:
            self._graph.initializer.append(tensor)
            self._known[tensor.name] = tensor
        return tensor.name

    def number(self, value: int) -> str:
        """Store a single whole number of 64 bits, without dimensions; return its name."""
        return self.add(numpy_helper.from_array(np.array(value, dtype=np.int64), f"number{value}"))

    def constant(self, values: Sequence[int], kind: type[np.generic]) -> str:
        """Store a small tensor (n,) once, under a name made of its content; return the name."""
        return self.keep(f"{kind.__name__}{list(values)}", np.array(values, dtype=kind))


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Numbers (n,) stored together: codes of `bits` bits, or whole numbers for 8 bits and more.

    float8: the numbers are bytes of e4m3 floats, uint8, with 0 as the only zero. They are restored as float32, because
    the runtime's operators support e4m3 as a storage type only.
    """

    name: str
    values: Array
    bits: int
    float8: bool = False

    @property
    def form(self) -> Form:
        """The smallest format, with or without zeros."""
        return smallest_form(self.values, self.bits)


def spread(stream: Stream, form: Form, store: TensorStore) -> tuple[Nodes, str, tuple[int, int]]:
    """Return nodes that restore all numbers, their tensor, and the sizes (before, after) of its padding.

    The tensor is (before + n + after,).
    """
    if form.kind == "mask":
        return _by_mask(stream, store)
    if form.kind == "gaps":
        return _by_gaps(stream, form.gap_bits, store)
    nodes, name = _numbers(stream, stream.name, stream.values, store)
    return nodes, name, (0, -len(stream.values) % 8 if stream.bits < 8 else 0)


def split(
    row: str, sizes: Sequence[int], names: Sequence[str], around: tuple[int, int], store: TensorStore
) -> tuple[Nodes, list[str]]:
    """Return nodes to cut a row into pieces, and the pieces' names; a single piece keeps the row's name.

    sizes, names: of the pieces. around: number of padding values before and after them.
    """
    before, after = around
    parts = [(before, f"{row}.before"), *zip(sizes, names, strict=True), (after, f"{row}.after")]
    wanted = [(size, name) for size, name in parts if size]
    if len(wanted) == 1:
        return [], [row]
    lengths = store.constant([size for size, _ in wanted], np.int64)
    return [helper.make_node("Split", [row, lengths], [name for _, name in wanted], axis=0)], list(names)


def _by_mask(stream: Stream, store: TensorStore) -> tuple[Nodes, str, tuple[int, int]]:
    """Restore a row by its mask.

    Number i is the kept number of index (ones in the mask up to i), or the 0 stored before all kept ones.
    """
    at, present = stream.name, stream.values != 0
    kept = np.append(np.zeros(1, dtype=stream.values.dtype), stream.values[present])
    nodes, values = _numbers(stream, f"{at}.kept", kept, store)
    masks, mask = _row(f"{at}.mask", present.astype(np.uint8), 1, store)
    nodes += masks
    nodes += [
        helper.make_node("Cast", [mask], [f"{at}.ones"], to=TensorProto.INT32),
        helper.make_node("CumSum", [f"{at}.ones", store.keep("axis", np.array(0, np.int64))], [f"{at}.count"]),
        helper.make_node("Mul", [f"{at}.count", f"{at}.ones"], [f"{at}.place"]),
        helper.make_node("Gather", [values, f"{at}.place"], [f"{at}.spread"]),
    ]
    return nodes, f"{at}.spread", (0, -len(stream.values) % 8)


def _by_gaps(stream: Stream, gap_bits: int, store: TensorStore) -> tuple[Nodes, str, tuple[int, int]]:
    """Scatter each kept number into a row of zeros, at the sum of all gaps up to its own."""
    at = stream.name
    gaps, kept = gaps_and_values(stream.values, gap_bits)
    nodes, values = _numbers(stream, f"{at}.kept", kept, store)
    steps, step = _row(f"{at}.gaps", gaps, gap_bits, store)
    nodes += steps
    zero = numpy_helper.from_array(np.zeros(1, dtype=np.float32 if stream.float8 else stream.values.dtype))
    length = store.constant([len(stream.values) + 1], np.int64)
    nodes += [
        helper.make_node("Cast", [step], [f"{at}.step"], to=TensorProto.INT32),
        helper.make_node("CumSum", [f"{at}.step", store.keep("axis", np.array(0, np.int64))], [f"{at}.place"]),
        helper.make_node("ConstantOfShape", [length], [f"{at}.zeros"], value=zero),
        helper.make_node("ScatterElements", [f"{at}.zeros", f"{at}.place", values], [f"{at}.spread"]),
    ]
    return nodes, f"{at}.spread", (1, 0)


def _numbers(stream: Stream, name: str, values: Array, store: TensorStore) -> tuple[Nodes, str]:
    """Return nodes for a part of a stream's numbers, and their tensor."""
    if not stream.float8:
        return _row(name, values, stream.bits, store)
    stored = helper.make_tensor(f"{name}.e4m3", TensorProto.FLOAT8E4M3FN, values.shape, values.tobytes(), raw=True)
    return [helper.make_node("Cast", [store.add(stored)], [f"{name}.float"], to=TensorProto.FLOAT)], f"{name}.float"


def _row(name: str, values: Array, bits: int, store: TensorStore) -> tuple[Nodes, str]:
    """Return nodes for a row with its zeros, and its tensor; codes are padded to whole bytes."""
    if bits >= 8:
        return [], store.keep(name, values)
    nodes: Nodes = []
    joined = ""
    for field, part in zip(fields(bits), pack(values.astype(np.uint8), bits), strict=True):
        at, low = f"{name}.{field}", store.constant(shifts(field).tolist(), np.uint8)
        stored = store.keep(at, part.reshape(-1, 1))
        nodes += [
            helper.make_node("BitShift", [stored, low], [f"{at}.low"], direction="RIGHT"),
            helper.make_node("BitwiseAnd", [f"{at}.low", store.constant([2**field - 1], np.uint8)], [f"{at}.rows"]),
            helper.make_node("Reshape", [f"{at}.rows", store.constant([-1], np.int64)], [f"{at}.codes"]),
        ]
        if not joined:
            joined = f"{at}.codes"
            continue
        above = store.constant([field], np.uint8)
        nodes += [
            helper.make_node("BitShift", [joined, above], [f"{at}.above"], direction="LEFT"),
            helper.make_node("BitwiseOr", [f"{at}.above", f"{at}.codes"], [f"{at}.joined"]),
        ]
        joined = f"{at}.joined"
    return nodes, joined
