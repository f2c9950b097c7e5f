"""Names of recorded operations, whichever of torch's spellings a network uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from nas_compress.models.layers import ActivationPoint, RawInput
from nas_compress.quantization.traced.tracer import RESULTS

POINT = "point"
CONVOLUTION = "convolution"
PRODUCT = "product"
"""A product with weights that is no convolution."""

_KINDS: Sequence[tuple[type[nn.Module], str]] = (
    (ActivationPoint, POINT),
    (RawInput, POINT),
    (_ConvTransposeNd, PRODUCT),
    (_ConvNd, CONVOLUTION),
    (nn.Linear, PRODUCT),
    (nn.Bilinear, PRODUCT),
    (_BatchNorm, "batch_norm"),
    (nn.ReLU, "relu"),
    (nn.ReLU6, "relu6"),
    (nn.Sigmoid, "sigmoid"),
    (nn.MaxPool1d, "max_pool"),
    (nn.MaxPool2d, "max_pool"),
    (nn.AvgPool1d, "avg_pool"),
    (nn.AvgPool2d, "avg_pool"),
    (nn.AdaptiveAvgPool1d, "avg_pool"),
    (nn.AdaptiveAvgPool2d, "avg_pool"),
    (nn.Flatten, "reshape"),
    (nn.Unflatten, "reshape"),
    (nn.Identity, "same"),
    (nn.modules.dropout._DropoutNd, "same"),
    (nn.Hardswish, "activation"),
    (nn.Hardsigmoid, "sigmoid"),
    (nn.SiLU, "activation"),
    (nn.GELU, "activation"),
    (nn.Mish, "activation"),
    (nn.ELU, "activation"),
    (nn.SELU, "activation"),
    (nn.CELU, "activation"),
    (nn.LeakyReLU, "activation"),
    (nn.PReLU, "activation"),
    (nn.Tanh, "activation"),
    (nn.Softplus, "activation"),
)

_NAMES = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), CONVOLUTION),
    **dict.fromkeys(("linear", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), PRODUCT),
    **dict.fromkeys(("matmul", "mm", "bmm", "einsum"), "matmul"),
    **dict.fromkeys(("relu", "relu_"), "relu"),
    "relu6": "relu6",
    **dict.fromkeys(("sigmoid", "sigmoid_", "hardsigmoid"), "sigmoid"),
    **dict.fromkeys(("add", "add_", "iadd"), "add"),
    **dict.fromkeys(("mul", "mul_", "imul"), "mul"),
    **dict.fromkeys(("cat", "concat", "concatenate"), "cat"),
    **dict.fromkeys(("max_pool1d", "max_pool2d"), "max_pool"),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"), "avg_pool"),
    "mean": "mean",
    "pad": "pad",
    **dict.fromkeys(("flatten", "reshape", "view", "unflatten", "squeeze", "unsqueeze"), "reshape"),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "t", "contiguous", "movedim"), "reshape"),
    **dict.fromkeys(("dropout", "dropout2d", "float"), "same"),
    **dict.fromkeys(("hardswish", "silu", "gelu", "mish", "elu", "selu", "celu", "leaky_relu", "prelu"), "activation"),
    **dict.fromkeys(("tanh", "softplus"), "activation"),
}


def operation(node: fx.Node, network: nn.Module) -> str:
    """Return the name of a node's operation; that of its function or class if it needs no point of its own."""
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        return next((name for kind, name in _KINDS if isinstance(module, kind)), type(module).__name__)
    name = _name(node)
    if name in ("matmul", "mm") and _is_weight(node, 1):
        return PRODUCT
    return _NAMES.get(name, name)


def _name(node: fx.Node) -> str:
    if node.op == "call_function":
        return str(getattr(node.target, "__name__", node.target)).strip("_")
    return str(node.target).rstrip("_") if node.op == "call_method" else node.op


def _is_weight(node: fx.Node, place: int) -> bool:
    """Return True if an argument is computed from parameters and constants alone."""
    value = node.args[place] if place < len(node.args) else None
    return isinstance(value, fx.Node) and is_constant(value)


def is_constant(node: fx.Node) -> bool:
    """Return True for a value that no input reaches."""
    waiting, seen = [node], set[fx.Node]()
    while waiting:
        each = waiting.pop()
        if each.op == "placeholder":
            return False
        new = [source for source in each.all_input_nodes if source not in seen]
        seen.update(new)
        waiting += new
    return True


def given(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """Return an argument of a node by place or name."""
    return node.args[place] if place < len(node.args) else node.kwargs.get(name, default)


def values_of(node: fx.Node) -> Tensor | None:
    """Return the result of a node for the first batch if it is a tensor of floats."""
    result = node.meta.get(RESULTS, (None,))[0]
    return result if isinstance(result, Tensor) and result.is_floating_point() else None


def only_reader(node: fx.Node) -> fx.Node | None:
    """Return the node that reads a value if it is the only one."""
    readers = list(node.users)
    return readers[0] if len(readers) == 1 else None


def folds(conv: fx.Node, norm: fx.Node, network: nn.Module) -> bool:
    """Return True if a batch normalisation is absorbed by the convolution before it; each is called once."""
    if conv.op != "call_module" or norm.op != "call_module" or norm.args[:1] != (conv,) or len(conv.users) != 1:
        return False
    layer, after = network.get_submodule(str(conv.target)), network.get_submodule(str(norm.target))
    once = all(sum(each.target == node.target for each in node.graph.nodes) == 1 for node in (conv, norm))
    return once and type(layer) is nn.Conv2d and type(after) is nn.BatchNorm2d and after.running_mean is not None


def changes_values(node: fx.Node, network: nn.Module) -> bool:
    """Return True for an operation that changes its argument in place."""
    if node.op == "call_module":
        return bool(getattr(network.get_submodule(str(node.target)), "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    in_place = name in ("setitem", "iadd", "isub", "imul", "itruediv") or (name.endswith("_") and name[0] != "_")
    return in_place or bool(node.kwargs.get("inplace", False))
