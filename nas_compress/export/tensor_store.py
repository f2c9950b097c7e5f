"""The stored tensors of a graph that is being written; what several nodes share is kept once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from nas_compress.export.graph_edits import Array, initialisers


class TensorStore:
    """Reads and adds the initialisers of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph, self._known = graph, initialisers(graph)

    def array(self, name: str) -> Array:
        """What a stored tensor holds."""
        return numpy_helper.to_array(self._known[name])

    def keep(self, name: str, values: Array) -> str:
        """Store values under a name that is new, or known for the same values; return the name."""
        return self.add(numpy_helper.from_array(np.ascontiguousarray(values), name))

    def add(self, tensor: onnx.TensorProto) -> str:
        """Store a tensor; return its name."""
        if tensor.name not in self._known:
            self._graph.initializer.append(tensor)
            self._known[tensor.name] = tensor
        return tensor.name

    def constant(self, values: Sequence[int], kind: type[np.generic]) -> str:
        """A small tensor (n,), named after its content and so stored once."""
        return self.keep(f"{kind.__name__}{list(values)}", np.array(values, dtype=kind))
