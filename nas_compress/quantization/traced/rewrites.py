"""Other forms of recorded operations, with the same floats, that have integer kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from nas_compress.quantization.traced.functional_layers import Modules, convolution, make_layers_
from nas_compress.quantization.traced.operation_names import given, only_reader, operation
from nas_compress.quantization.traced.tracer import RESULTS


def rewrite_(graph: fx.Graph, network: nn.Module) -> Modules:
    """Rewrite a graph in place; return the modules that replace those of the network or join them."""
    made = make_layers_(graph)
    for node in list(graph.nodes):
        if node.op == "call_module":
            module = made.get(str(node.target)) or network.get_submodule(str(node.target))
            if not _has_own_weights(module, network):
                continue
            if type(module) is nn.Conv2d and module.padding_mode != "zeros":
                _pad_before_(graph, node, module, made)
            elif type(module) in (nn.Conv1d, nn.Conv2d) and _is_line(module, node):
                _lay_flat_(graph, node, network, made)
        elif operation(node, network) == "mean":
            _average_planes_(graph, node)
        elif operation(node, network) == "reshape":
            _flatten_(graph, node)
    return made


def _has_own_weights(module: nn.Module, network: nn.Module) -> bool:
    """Return True for a layer without hooks whose weights are a parameter that no other layer has."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter) or module._forward_pre_hooks or module._forward_hooks:
        return False
    return sum(each is weight for _, each in network.named_parameters(remove_duplicate=False)) == 1


def _values(node: fx.Node) -> tuple[Any, Any]:
    results: tuple[Any, Any] = node.meta[RESULTS]
    return results


def _insert(graph: fx.Graph, after: fx.Node, target: Callable[..., Any] | str, *args: Any, **named: Any) -> fx.Node:
    """Add an operation behind `after`, with its results."""
    with graph.inserting_after(after):
        if isinstance(target, str):
            return graph.call_module(target, args)
        node = graph.call_function(target, args, named)
    node.meta[RESULTS] = tuple(_computed(target, args, named, batch) for batch in range(2))
    return node


def _computed(target: Callable[..., Any], args: Any, named: Any, batch: int) -> Any:
    return target(*fx.node.map_arg(args, lambda each: _values(each)[batch]), **named)


def _replace(node: fx.Node, new: fx.Node) -> None:
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def _flatten_(graph: fx.Graph, node: fx.Node) -> None:
    """Write a view with one row per sample as a flattening, which needs no size."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or not isinstance(_values(node)[0], Tensor):
        return
    pairs = list(zip(_values(source), _values(node), strict=True))
    rows = all(one.ndim > 2 and one.shape[:1] == other.shape[:1] and other.ndim == 2 for one, other in pairs)
    if rows and pairs[0][1].shape[0] != pairs[1][1].shape[0] and _keeps_order(node):
        _replace(node, _insert(graph, node, torch.flatten, source, 1))


def _keeps_order(node: fx.Node) -> bool:
    return str(getattr(node.target, "__name__", node.target)) in ("view", "reshape", "flatten", "squeeze")


def _average_planes_(graph: fx.Graph, node: fx.Node) -> None:
    """Write a mean over height and width as one that keeps them, which has an integer kernel, and a flattening."""
    values, dims = _values(node.args[0])[0], given(node, 1, "dim")  # type: ignore[arg-type]
    named = set(node.kwargs) - {"dim", "keepdim"}
    if values.ndim != 4 or named or given(node, 2, "keepdim", False) or not isinstance(dims, tuple | list):
        return
    if sorted(dim % 4 for dim in dims) == [2, 3]:
        mean = _insert(graph, node, torch.mean, node.args[0], (2, 3), keepdim=True)
        _replace(node, _insert(graph, mean, torch.flatten, mean, 1))


def _pad_before_(graph: fx.Graph, node: fx.Node, conv: nn.Conv2d, made: Modules) -> None:
    """Write padding other than zeros as an operation of its own."""
    source = node.args[0]
    if not isinstance(source, fx.Node):
        return
    sizes = tuple(conv._reversed_padding_repeated_twice)
    padded = _insert(graph, source, F.pad, source, sizes, mode=conv.padding_mode)
    node.args = (padded, *node.args[1:])
    if not isinstance(made.get(str(node.target)), nn.Conv2d):
        made[str(node.target)] = _same_weights(conv, padding=0)


def _same_weights(conv: nn.Conv2d, *, padding: Any) -> nn.Conv2d:
    """Return a convolution with the same parameters and other padding."""
    return convolution(
        conv.weight, conv.bias, stride=conv.stride, padding=padding, dilation=conv.dilation, groups=conv.groups
    )


def _is_line(module: nn.Module, node: fx.Node) -> bool:
    """Return True for a convolution of one dimension, or its rewritten form at a further call."""
    values = _values(node.args[0])[0] if node.args and isinstance(node.args[0], fx.Node) else None
    return values is not None and values.ndim == 3 and getattr(module, "padding_mode", "") == "zeros"


def _lay_flat_(graph: fx.Graph, node: fx.Node, network: nn.Module, made: Modules) -> None:
    """Write a convolution of one dimension, with what its kernel computes too, as one over planes of height 1.

    The runtime and the quantizer have one kind of convolution.
    """
    path, source = str(node.target), node.args[0]
    if not isinstance(source, fx.Node):
        return
    if path not in made:
        conv = network.get_submodule(path)
        if not isinstance(conv, nn.Conv1d):
            return
        padding = conv.padding if isinstance(conv.padding, str) else (0, conv.padding[0])
        made[path] = convolution(
            nn.Parameter(conv.weight.detach().unsqueeze(2), requires_grad=conv.weight.requires_grad),
            conv.bias,
            stride=(1, conv.stride[0]),
            padding=padding,
            dilation=(1, conv.dilation[0]),
            groups=conv.groups,
        )
    chain, last = [node], only_reader(node)
    if last is not None and _is_norm_of(last, node, network):
        made[str(last.target)] = _norm_of_planes(network.get_submodule(str(last.target)))
        chain.append(last)
        last = only_reader(last)
    if last is not None and operation(last, network) in ("relu", "relu6") and last.args[:1] == (chain[-1],):
        chain.append(last)
    flat = _insert(graph, source, torch.unsqueeze, source, 2)
    node.args = (flat, *node.args[1:])
    for each in chain:
        each.meta[RESULTS] = tuple(result.unsqueeze(2) for result in _values(each))
    readers = list(chain[-1].users)
    line = _insert(graph, chain[-1], torch.squeeze, chain[-1], 2)
    for reader in readers:
        reader.replace_input_with(chain[-1], line)


def _is_norm_of(norm: fx.Node, conv: fx.Node, network: nn.Module) -> bool:
    """Return True for a normalisation that is called once, behind a convolution that is called once."""
    if norm.op != "call_module" or norm.args != (conv,):
        return False
    calls = [str(each.target) for each in conv.graph.nodes if each.op == "call_module"]
    once = calls.count(str(norm.target)) == calls.count(str(conv.target)) == 1
    return once and type(network.get_submodule(str(norm.target))) is nn.BatchNorm1d


def _norm_of_planes(norm: nn.Module) -> nn.Module:
    """Return a normalisation of planes with the same parameters and statistics."""
    if not isinstance(norm, nn.BatchNorm1d):
        return norm
    with torch.device("meta"):
        planes = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    planes.weight, planes.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers():
        setattr(planes, name, buffer)
    return planes
