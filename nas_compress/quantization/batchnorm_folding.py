"""Folding of batch normalisation into the convolution before it.

In evaluation mode batch normalisation is one multiplication and one addition per channel, and the convolution's weights
and bias absorb them (Jacob et al. 2018, arXiv 1712.05877, section 3.2).
"""

from __future__ import annotations

from collections import Counter

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nas_compress.models.factorised import last_layer
from nas_compress.models.layers import ConvUnit


def fold_batch_norm_(network: nn.Module) -> None:
    """Fold every batch normalisation with a single convolution as its input, in place.

    network: in evaluation mode. In a user's module the pairs are found by tracing. If it cannot be traced, its
    normalisations stay.
    """
    units = [name for name, unit in network.named_modules() if isinstance(unit, ConvUnit)]
    _fold_pairs_(network, [(_inside(name, "conv"), _inside(name, "norm")) for name in units])
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        _fold_pairs_(network, traced_pairs(network))


def _fold_pairs_(network: nn.Module, pairs: list[tuple[str, str]]) -> None:
    for unit_path, norm_path in pairs:
        conv_path = last_layer(network, unit_path)
        conv, norm = network.get_submodule(conv_path), network.get_submodule(norm_path)
        if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and _has_fixed_statistics(norm):
            network.set_submodule(conv_path, fuse_conv_bn_eval(conv, norm))
            pass_on_(network, norm_path)


def pass_on_(network: nn.Module, path: str) -> None:
    """Let a module at a path do nothing; modules inside it stay."""
    passed = nn.Identity()
    for name, child in network.get_submodule(path).named_children():
        passed.add_module(name, child)
    network.set_submodule(path, passed)


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _has_fixed_statistics(norm: nn.BatchNorm2d) -> bool:
    return norm.running_mean is not None and not norm.training


def traced_pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Paths of layers and their only readers, both called once; layers of any kind."""
    try:
        graph = network.graph if isinstance(network, fx.GraphModule) else fx.Tracer().trace(network)
    except Exception:  # a user's forward may raise anything with a traced value
        return []
    nodes = list(graph.nodes)
    calls = Counter(str(node.target) for node in nodes if node.op == "call_module")
    pairs = []
    for node in nodes:
        before = _source(node, network)
        if node.op != "call_module" or before is None:
            continue
        conv, norm = str(before.target), str(node.target)
        if calls[conv] == calls[norm] == 1:
            pairs.append((conv, norm))
    return pairs


def _source(node: fx.Node, network: nn.Module) -> fx.Node | None:
    """Return the layer whose only reader is this node, apart from modules that pass its values on."""
    before = node.args[0] if node.args else None
    while isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1:
        if not isinstance(network.get_submodule(str(before.target)), nn.Identity):
            return before
        before = before.args[0]
    return None
