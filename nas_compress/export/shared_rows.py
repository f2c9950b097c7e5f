"""Several tensors as pieces of one row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import helper

from nas_compress.export.tensor_store import TensorStore
from nas_compress.export.unpack_nodes import Nodes


def split(
    row: str, sizes: Sequence[int], names: Sequence[str], around: tuple[int, int], store: TensorStore
) -> tuple[Nodes, list[str]]:
    """Nodes that cut a row into pieces of those sizes, and their names: those given, or the row's own where it is one.

    around: how many numbers lie before and after them that belong to none.
    """
    before, after = around
    parts = [(before, f"{row}.before"), *zip(sizes, names, strict=True), (after, f"{row}.after")]
    wanted = [(size, name) for size, name in parts if size]
    if len(wanted) == 1:
        return [], [row]
    lengths = store.constant([size for size, _ in wanted], np.int64)
    return [helper.make_node("Split", [row, lengths], [name for _, name in wanted], axis=0)], list(names)
