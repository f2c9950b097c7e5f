"""Functions with parameters, such as those of a subclass of a layer, as layers with the same parameters.

Quantization reads the weights of layers. A weight computed from parameters, such as a standardised one, becomes a
parametrization of torch, so that rounding applies to its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from nas_compress.quantization.traced.operation_names import given, is_constant
from nas_compress.quantization.traced.tracer import RESULTS

Modules = dict[str, nn.Module]
"""New modules by path."""

_CONVOLUTION = (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))


def make_layers_(graph: fx.Graph) -> Modules:
    """Write each function with parameters of one module as a layer at this module's path."""
    made: Modules = {}
    for node in list(graph.nodes):
        name = str(getattr(node.target, "__name__", "")) if node.op == "call_function" else ""
        found = None
        if name == "conv2d":
            found = _weighted(node, [given(node, place + 3, *each) for place, each in enumerate(_CONVOLUTION)])
        elif name == "linear":
            found = _weighted(node, [])
        elif name == "batch_norm":
            found = _norm(node)
        if found is not None and not _is_taken(graph, found[0], made):
            made[found[0]] = found[1]
            with graph.inserting_after(node):
                layer = graph.call_module(found[0], (given(node, 0, "input"),))
            layer.meta[RESULTS] = node.meta[RESULTS]
            node.replace_all_uses_with(layer)
            graph.erase_node(node)
    return made


def convolution(
    weight: Tensor, bias: Tensor | None, *, stride: Any, padding: Any, dilation: Any, groups: int
) -> nn.Conv2d:
    """Return a convolution of two dimensions that has these parameters themselves."""
    outputs, inputs, *kernel = weight.shape
    with torch.device("meta"):
        made = nn.Conv2d(
            inputs * groups,
            outputs,
            (kernel[0], kernel[1]),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias is not None,
        )
    _own_(made, weight=weight, bias=bias)
    return made


def _own_(layer: nn.Module, **tensors: Tensor | None) -> None:
    for name, tensor in tensors.items():
        if tensor is not None:
            setattr(layer, name, tensor)


def _is_taken(graph: fx.Graph, path: str, made: Modules) -> bool:
    """Return True if a path names a layer that is called already."""
    return not path or path in made or any(each.op == "call_module" and each.target == path for each in graph.nodes)


def _tensor(node: Any) -> Any:
    return node.meta[RESULTS][0] if isinstance(node, fx.Node) else None


def _owner(nodes: Sequence[Any]) -> str | None:
    """Return the path of the module that has all these tensors, each read once; None if there is no such module."""
    wanted = [node for node in nodes if node is not None]
    if not wanted or not all(isinstance(each, fx.Node) and each.op == "get_attr" for each in wanted):
        return None
    paths = {str(each.target).rpartition(".")[0] for each in wanted}
    return paths.pop() if len(paths) == 1 and all(len(each.users) == 1 for each in wanted) else None


def _weighted(node: fx.Node, settings: Sequence[Any]) -> tuple[str, nn.Module] | None:
    """Return path and layer of a convolution or a linear function."""
    weight, bias = given(node, 1, "weight"), given(node, 2, "bias")
    if not isinstance(weight, fx.Node) or any(isinstance(each, fx.Node) for each in settings):
        return None
    computed = None if weight.op == "get_attr" else _computed(weight)
    source = weight if computed is None else computed[0]
    path = _owner([source, bias] if computed is None else [bias])
    if computed is not None and (bias is None or path == str(source.target).rpartition(".")[0]):
        path = str(source.target).rpartition(".")[0]
    tensors = _tensor(source), _tensor(bias)
    if path is None or not all(isinstance(each, nn.Parameter) or each is None for each in tensors):
        return None
    layer: nn.Module
    if settings:
        stride, padding, dilation, groups = settings
        layer = convolution(*tensors, stride=stride, padding=padding, dilation=dilation, groups=groups)
    else:
        layer = _linear(*tensors)
    if computed is not None:
        parametrize.register_parametrization(layer, "weight", computed[1], unsafe=True)
    return path, layer


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    _own_(layer, weight=weight, bias=bias)
    return layer


def _computed(weight: fx.Node) -> tuple[fx.Node, nn.Module] | None:
    """Return the parameter of a computed weight, and the function from one to the other."""
    if not is_constant(weight):
        return None
    nodes = _ancestors(weight)
    same = [each for each in nodes if each.op == "get_attr" and isinstance(_tensor(each), nn.Parameter)]
    same = [each for each in same if _tensor(each).shape == _tensor(weight).shape]
    if len(same) != 1 or any(user not in nodes for each in nodes if each is not weight for user in each.users):
        return None
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    copies[same[0]] = graph.placeholder("original")
    for each in nodes:
        if each not in copies:
            copies[each] = graph.node_copy(each, copies.__getitem__)
            copies[each].meta.clear()
    graph.output(copies[weight])
    attributes = {str(each.target): _tensor(each) for each in nodes if each.op == "get_attr" and each is not same[0]}
    return same[0], fx.GraphModule(attributes, graph)


def _ancestors(node: fx.Node) -> list[fx.Node]:
    """Return a node and all that it reads, in the order of the graph."""
    waiting, found = [node], {node}
    while waiting:
        new = [each for each in waiting.pop().all_input_nodes if each not in found]
        found.update(new)
        waiting += new
    return [each for each in node.graph.nodes if each in found]


def _norm(node: fx.Node) -> tuple[str, nn.Module] | None:
    """Return path and layer of a batch normalisation with statistics."""
    mean, variance = given(node, 1, "running_mean"), given(node, 2, "running_var")
    weight, bias = given(node, 3, "weight"), given(node, 4, "bias")
    momentum, eps = given(node, 6, "momentum", 0.1), given(node, 7, "eps", 1e-5)
    path, values = _owner([mean, variance, weight, bias]), _tensor(given(node, 0, "input"))
    if path is None or mean is None or weight is None or bias is None or values is None or values.ndim != 4:
        return None
    if not isinstance(given(node, 5, "training"), fx.Node) or isinstance(momentum, fx.Node) or isinstance(eps, fx.Node):
        return None  # the same in both modes, so no layer
    with torch.device("meta"):
        layer = nn.BatchNorm2d(values.shape[1], eps=eps, momentum=momentum)
    _own_(layer, weight=_tensor(weight), bias=_tensor(bias), running_mean=_tensor(mean), running_var=_tensor(variance))
    layer.num_batches_tracked = torch.tensor(0)
    return path, layer
