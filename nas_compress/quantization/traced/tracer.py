"""Tracing of a network with results: each recorded value has its result for two batches of different size."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from nas_compress.errors import UntraceableError
from nas_compress.models.layers import ActivationPoint, RawInput

RESULTS = "results"
"""Key of a node's results, one for each batch."""

MAKERS = ("arange", "zeros", "ones", "full", "empty", "rand", "randn", "linspace", "eye", "tensor", "as_tensor")
"""Functions of torch without a tensor among their arguments; torch does not let a proxy intercept these."""

OPENED = (
    nn.Sequential,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)
"""Modules of torch that are recorded by their parts."""

CONSTANTS = (
    "ndim",
    "dtype",
    "layout",
    "is_nested",
    "is_sparse",
    "is_quantized",
    "is_leaf",
    "requires_grad",
    "grad_fn",
    "dim",
)
"""Attributes of a tensor that do not depend on its numbers or its device."""


class ValueProxy(fx.Proxy):
    """A recorded value. Sizes that are equal in both batches are numbers; others are recorded values too."""

    _is_param = False

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Pass as a tensor where the value is one."""
        return Tensor if isinstance(self._results[0], Tensor) else ValueProxy

    @property
    def _results(self) -> tuple[Any, Any]:
        results: tuple[Any, Any] = self.node.meta[RESULTS]
        return results

    def __getattr__(self, name: str) -> Any:
        first = self._results[0]
        if isinstance(first, Tensor):
            if name == "shape":
                return self._sizes()
            if name == "size":
                return lambda dim=None: self._sizes() if dim is None else self._sizes()[dim]
            if name in CONSTANTS:
                return getattr(first, name)
            if name in ("item", "tolist"):
                raise UntraceableError(f"it reads the numbers of a tensor by .{name}()")
        return super().__getattr__(name)

    def _sizes(self) -> tuple[Any, ...]:
        first, second = (result.shape for result in self._results)
        return tuple(
            size if size == other else self.tracer.create_proxy("call_method", "size", (self, place), {})
            for place, (size, other) in enumerate(zip(first, second, strict=True))
        )

    def __setitem__(self, place: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, place, value), {})

    def __len__(self) -> int:
        lengths = [len(result) for result in self._results]
        if lengths[0] != lengths[1]:
            raise UntraceableError("it loops over its samples")
        return lengths[0]

    def __iter__(self) -> Iterator[Any]:
        return iter([operator.getitem(self, place) for place in range(len(self))])

    def _number(self) -> Any:
        """Return a number that is the same in both batches."""
        first, second = self._results
        if isinstance(first, Tensor):
            raise UntraceableError("it decides by the numbers of a tensor")
        if first != second:
            raise UntraceableError("it decides by the number of its samples")
        return first

    def __bool__(self) -> bool:
        return bool(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def __index__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def __ceil__(self) -> int:
        rounded: int = math.ceil(self._number())
        return rounded

    def __round__(self, *digits: int) -> Any:
        return round(self._number(), *digits)


class ValueTracer(fx.Tracer):
    """Record the operations of a network and run each on two batches.

    inputs: tensors of each batch, in the order of the network's arguments.
    """

    def __init__(self, inputs: Sequence[Sequence[Tensor]]) -> None:
        super().__init__()
        self._inputs, self._running = inputs, False
        self._counting: list[dict[str, Any]] = []
        self.outputs_of: dict[str, fx.Node] = {}
        """Last result of each module that is recorded by its parts and returns one tensor, by path."""

    def record(self, network: nn.Module) -> fx.Graph:
        """Return the graph; a network may raise anything with recorded values."""
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), _makers_record():
                self._record_lengths(network)
                return self.trace(network)
        finally:
            for names in self._counting:
                del names["len"]

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        """Give the network recorded values for its inputs only; other arguments keep their defaults."""
        given = [self.create_proxy("placeholder", f"input_{place}", (), {}) for place in range(len(self._inputs[0]))]
        return root_fn, [self.root, *given]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return True for a module that is recorded as one operation."""
        if isinstance(m, OPENED):
            return False
        return (
            isinstance(m, ActivationPoint | RawInput)
            or super().is_leaf_module(m, module_qualified_name)
            or _is_random(m)
        )

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Record a call, or run it for its result."""
        if self._running:
            return forward(*args, **kwargs)
        self._record_lengths(m)
        returned = super().call_module(m, forward, args, kwargs)
        path = self.path_of_module(m)
        if type(returned) is ValueProxy and not self.is_leaf_module(m, path):
            self.outputs_of[path] = returned.node
        return returned

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """Return a recorded value for a parameter, or the parameter where a result is computed."""
        return attr_val if self._running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the recorded value of a node."""
        return ValueProxy(node, self)

    def create_arg(self, a: Any) -> Any:
        """Return the node of a recorded value."""
        return a.node if issubclass(type(a), fx.Proxy) else super().create_arg(a)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> fx.Node:
        """Record an operation and compute its results."""
        node = super().create_node(kind, target, args, kwargs, *rest, **named)
        if kind != "output":
            node.meta[RESULTS] = tuple(self._result(kind, target, args, kwargs, batch) for batch in range(2))
        return node

    def _record_lengths(self, module: nn.Module) -> None:
        """Let `len` return a recorded value for a number of samples where the module's class is defined."""
        names = getattr(type(module).forward, "__globals__", None)
        if names is not None and "len" not in names and not self.is_leaf_module(module, ""):
            names["len"] = _length
            self._counting.append(names)

    def _result(self, kind: str, target: Any, args: Any, kwargs: Any, batch: int) -> Any:
        if kind == "placeholder":
            return self._inputs[batch][int(target.rpartition("_")[2])]
        if kind == "get_attr":
            return functools.reduce(_attribute, target.split("."), self.root)
        given, named = map_arg((args, kwargs), lambda node: node.meta[RESULTS][batch])
        before, self._running = self._running, True
        try:
            if kind == "call_module":
                return self.root.get_submodule(target)(*given, **named)
            if kind == "call_method":
                return getattr(given[0], target)(*given[1:], **named)
            return target(*given, **named)
        finally:
            self._running = before


def _length(values: Any) -> Any:
    is_recorded = type(values) is ValueProxy and values.__class__ is Tensor
    return values.shape[0] if is_recorded else len(values)


_MODULE_GETATTR = nn.Module.__getattr__
"""The method itself; torch.fx replaces it while it records."""


def _attribute(owner: Any, name: str) -> Any:
    return vars(owner)[name] if name in vars(owner) else _MODULE_GETATTR(owner, name)


def _is_random(module: nn.Module) -> bool:
    """Return True for a module without tensors that reads its mode, such as one that drops paths in training."""
    code = getattr(type(module).forward, "__code__", None)
    has_tensors = any(True for _ in module.parameters()) or any(True for _ in module.buffers())
    return code is not None and "training" in code.co_names and not has_tensors


@contextmanager
def _makers_record() -> Iterator[None]:
    """Let functions that make tensors accept recorded values as sizes."""
    own = {name: getattr(torch, name) for name in MAKERS}

    def recording(make: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(make)
        def made(*args: Any, **kwargs: Any) -> Any:
            found: list[fx.Proxy] = []
            fx.node.map_aggregate((args, kwargs), lambda each: _collect(each, found))
            if not found:
                return make(*args, **kwargs)
            return found[0].tracer.create_proxy("call_function", make, args, kwargs)

        return made

    try:
        for name, make in own.items():
            setattr(torch, name, recording(make))
        yield
    finally:
        for name, make in own.items():
            setattr(torch, name, make)


def _collect(value: Any, found: list[fx.Proxy]) -> Any:
    if issubclass(type(value), fx.Proxy):
        found.append(value)
    return value
