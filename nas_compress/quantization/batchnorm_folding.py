"""Batch normalisation written into the convolution before it: fewer operations, the same function.

In evaluation a batch normalisation is one multiplication and one addition per channel, which the
convolution's weights and bias can absorb (Jacob et al. 2018, arXiv 1712.05877, section 3.2).
"""

from __future__ import annotations

from collections import Counter

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nas_compress.models.factorised import last_layer
from nas_compress.models.layers import ConvUnit


def fold_batch_norm_(network: nn.Module) -> None:
    """Fold in place every batch normalisation of which it is certain that one convolution alone feeds it.

    Needs evaluation mode. In a module of another make the pairs are found by tracing it; where it cannot be
    traced, its normalisations stay, and the function is the same.
    """
    units = [name for name, unit in network.named_modules() if isinstance(unit, ConvUnit)]
    _fold_pairs_(network, [(_inside(name, "conv"), _inside(name, "norm")) for name in units])
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        _fold_pairs_(network, _traced_pairs(network))


def _fold_pairs_(network: nn.Module, pairs: list[tuple[str, str]]) -> None:
    for unit_path, norm_path in pairs:
        conv_path = last_layer(network, unit_path)
        conv, norm = network.get_submodule(conv_path), network.get_submodule(norm_path)
        if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and _has_fixed_statistics(norm):
            network.set_submodule(conv_path, fuse_conv_bn_eval(conv, norm))
            network.set_submodule(norm_path, nn.Identity())


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _has_fixed_statistics(norm: nn.BatchNorm2d) -> bool:
    return norm.running_mean is not None and not norm.training


def _traced_pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Paths of a layer and the normalisation that alone reads it, each called once; layers of any kind."""
    try:
        nodes = list(fx.Tracer().trace(network).nodes)
    except Exception:  # a user's forward may raise anything when it meets a traced value
        return []
    calls = Counter(str(node.target) for node in nodes if node.op == "call_module")
    pairs = []
    for node in nodes:
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        conv, norm = str(before.target), str(node.target)
        if len(before.users) == 1 and calls[conv] == calls[norm] == 1:
            pairs.append((conv, norm))
    return pairs
