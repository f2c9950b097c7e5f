"""Places of activation points in a traced graph.

onnxruntime computes a convolution in integers if its input and its output are quantized, and a product with a matrix if
its input is. Sums, concatenations, gates and pools of quantized values are integers if their result is quantized too.
Values of a transformer between its products stay float: normalisation, scores, softmax and residual sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import fx, nn

from nas_compress.quantization.traced.operation_names import (
    CONVOLUTION,
    POINT,
    PRODUCT,
    folds,
    given,
    is_constant,
    only_reader,
    operation,
    values_of,
)

MOVES = ("max_pool", "reshape", "same")
"""Operations that the runtime applies to integers as they are."""

FOLLOWS = ("relu", "relu6")
"""Operations that an integer kernel applies to its result."""


JOINS = ("add", "cat")
"""Operations with an integer kernel for several quantized values."""

ALONE = ("avg_pool", "mean", "sigmoid", "activation", *FOLLOWS)
"""Functions of one quantized value; some have an integer kernel, and a product behind one reads rounded values."""


@dataclass(kw_only=True)
class Placement:
    """Nodes that get a point.

    everywhere: all readers of the value read it rounded, in the order of the graph.
    products: only these readers read it rounded, such as the linear layers behind a normalisation.
    """

    everywhere: dict[fx.Node, None] = field(default_factory=dict)
    products: dict[fx.Node, list[fx.Node]] = field(default_factory=dict)


def place(graph: fx.Graph, network: nn.Module) -> Placement:
    """Choose the values of a graph that get an activation point."""
    return _Chooser(graph, network).chosen()


class _Chooser:
    def __init__(self, graph: fx.Graph, network: nn.Module) -> None:
        self._graph, self._network = graph, network
        self._placement, self._integer = Placement(), set[fx.Node]()

    def chosen(self) -> Placement:
        for node in self._graph.nodes:
            if values_of(node) is None or node.op == "output":
                continue
            name = operation(node, self._network)
            if name == POINT:
                self._integer.add(node)
            elif name == CONVOLUTION:
                self._round_input(node)
                end = self._end(node)
                after = only_reader(end)
                if after is None or self._operation(after) != POINT:  # one between two factors
                    self._round(end)
            elif name == PRODUCT:
                self._round_input(node)
            elif name in MOVES or (name == "pad" and _moves(node)):
                self._pass_on(node)
            else:
                self._join(node, name)
        return self._placement

    def _operation(self, node: fx.Node) -> str:
        return operation(node, self._network)

    def _end(self, node: fx.Node) -> fx.Node:
        """Return the last node that one integer kernel computes."""
        after = only_reader(node)
        if after is not None and self._operation(node) == CONVOLUTION and folds(node, after, self._network):
            node, after = after, only_reader(after)
        while after is not None and self._operation(after) == "same":
            node, after = after, only_reader(after)
        if after is not None and self._operation(after) in FOLLOWS:
            node = after
        return node

    def _round(self, node: fx.Node) -> None:
        self._placement.everywhere[node] = None
        self._integer.add(node)

    def _round_input(self, node: fx.Node) -> None:
        """Let a product read a rounded value."""
        values = node.args[0] if node.args else node.kwargs.get("input")
        if isinstance(values, fx.Node) and not self._is_read_directly(values, node):
            self._round_for(values, node)

    def _round_for(self, values: fx.Node, reader: fx.Node) -> None:
        self._placement.products.setdefault(values, []).append(reader)

    def _is_read_directly(self, values: fx.Node, reader: fx.Node) -> bool:
        """Return True if the runtime joins a reader with the rounding before it."""
        if self._operation(reader) == PRODUCT:  # between the two it matches nothing but a flattening
            while self._flattens(values) or self._operation(values) == "same":
                values = values.all_input_nodes[0]
            return values in self._placement.everywhere or self._operation(values) == POINT
        return values in self._integer

    def _pass_on(self, node: fx.Node) -> None:
        sources = list(self._sources(node))
        moved = bool(sources) and all(source in self._integer for source in sources)
        if moved or node in self._placement.everywhere:
            self._integer.add(node)

    def _sources(self, node: fx.Node) -> Iterator[fx.Node]:
        """Yield the values of floats that depend on an input."""
        return (each for each in node.all_input_nodes if values_of(each) is not None and not is_constant(each))

    def _join(self, node: fx.Node, name: str) -> None:
        sources = list(self._sources(node))
        integer = [source in self._integer for source in sources]
        if node in self._placement.everywhere:
            self._integer.add(node)
        elif not any(integer):
            return
        elif name == "mul" and len(sources) == 2:
            self._gate(node, sources)
        elif all(integer) and (name in ALONE or (name in JOINS and len(sources) > 1)):
            self._round(self._end(node))

    def _gate(self, node: fx.Node, sources: list[fx.Node]) -> None:
        """Round both factors of a gate, such as that of squeeze and excitation, and its result."""
        result = values_of(node)
        floats = [source for source in sources if source not in self._integer]
        sizes = [0 if values is None else values.numel() for values in map(values_of, floats)]
        if result is not None and all(size < result.numel() for size in sizes):
            for source in floats:
                self._round_for(source, node)
            self._round(self._end(node))

    def _flattens(self, node: fx.Node) -> bool:
        """Return True for a flattening of each sample."""
        values, kind = values_of(node), str(getattr(node.target, "__name__", node.target))
        if node.op == "call_module":
            kind = type(self._network.get_submodule(kind)).__name__.lower()
        return values is not None and values.ndim == 2 and kind == "flatten"


def _moves(pad: fx.Node) -> bool:
    """Return True for padding with zeros or with the values themselves."""
    return given(pad, 2, "mode", "constant") != "constant" or not given(pad, 3, "value")
