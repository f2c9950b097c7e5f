"""Weights of a network: tensors that convolutions, products and look-ups multiply by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from nas_compress.models.features import ObservableNetwork
from nas_compress.models.networks.recurrent_layer import RecurrentLayer
from nas_compress.quantization.trainable_modules import FakeQuantConv2d, FakeQuantLinear
from nas_compress.quantization.weight_flow import WeightFlow, own_name, weight_flow
from nas_compress.tasks.batch import Batch, count, rows

KINDS = (
    _ConvNd,
    nn.Linear,
    nn.Bilinear,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RNNCellBase,
    FakeQuantConv2d,
    FakeQuantLinear,
)
"""Layers of torch whose parameters with these names are weights, also in subclasses."""

_NAME = re.compile(r"weight|\w+_weight|weight_(ih|hh|hr)\w*")

FUSING = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
"""Layers of torch that read the parameters of their parts in evaluation mode, for one fused kernel."""

FEW = 2
"""Samples of the pass that finds weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Weight:
    """One tensor of weights, a parameter or computed from parameters by a parametrization.

    layer: the module's path, or the parameter's if it has another name than `weight`.
    module, name: the module and its attribute.
    is_plain: the module is exactly nn.Conv2d with zero padding or nn.Linear, and it alone uses the tensor.
    """

    layer: str
    module: nn.Module
    name: str
    is_plain: bool

    @property
    def tensor(self) -> Tensor:
        """The current values, with gradients."""
        tensor: Tensor = getattr(self.module, self.name)
        return tensor


def find_weights(network: nn.Module, samples: Batch | None = None, *, every_path: bool = False) -> tuple[Weight, ...]:
    """Find the weights of a network, each module once, in order of registration.

    samples: on the network's device. One pass of a few then also finds bare parameters in products, and orders the
    weights by their first use. Families of this package have no such parameters and are not run.
    every_path: list a module once for each of its paths.
    """
    flow = None
    if samples is not None and count(samples) and not isinstance(network, ObservableNetwork):
        flow = weight_flow(network, rows(samples, 0, FEW))
    found = [
        (f"{path}.{name}" if path else name, module, name)
        for path, module in network.named_modules(remove_duplicate=not every_path)
        if "parametrizations" not in path.split(".")
        for name in _weight_names(path, module, flow)
    ]
    if flow is not None:
        found = _by_first_use(found, flow.multiplied)
    elsewhere = frozenset() if flow is None else flow.used_elsewhere
    fused = {id(part) for module in network.modules() if isinstance(module, FUSING) for part in module.children()}
    return tuple(
        Weight(
            layer=full.removesuffix(".weight"),
            module=module,
            name=name,
            is_plain=name == "weight" and _is_plain(module) and full not in elsewhere and id(module) not in fused,
        )
        for full, module, name in found
    )


def with_bits(network: nn.Module, bits: Mapping[str, int], samples: Batch | None) -> list[tuple[Weight, int]]:
    """Return each weight with bits once, with its bits; see `find_weights`."""
    chosen = {
        (weight.module, weight.name): (weight, bits[weight.layer])
        for weight in find_weights(network, samples, every_path=True)
        if weight.layer in bits
    }
    return list(chosen.values())


def has_integer_kernel(module: nn.Module) -> bool:
    """Return True if a runtime may multiply by a module's integers; it looks up and transforms floats."""
    if isinstance(module, RecurrentLayer):
        return module.has_integer_kernel
    return isinstance(module, _ConvNd | nn.Linear | nn.MultiheadAttention | FakeQuantConv2d | FakeQuantLinear)


def _by_first_use(found: list[tuple[str, nn.Module, str]], used: Sequence[str]) -> list[tuple[str, nn.Module, str]]:
    """Sort weights by their first use; an unused one stays behind the one before it."""
    order, places, place = {name: number for number, name in enumerate(used)}, [], -1
    for name, _, _ in found:
        place = order.get(name, place)
        places.append(place)
    return [found[number] for number in sorted(range(len(found)), key=places.__getitem__)]


def _weight_names(path: str, module: nn.Module, flow: WeightFlow | None) -> Iterator[str]:
    for name in _tensor_names(module):
        full = f"{path}.{name}" if path else name
        is_known = isinstance(module, KINDS) and _NAME.fullmatch(name) is not None
        if is_known or (flow is not None and full in flow.multiplied):
            tensor = getattr(module, name)
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and _is_matrix(tensor, is_known):
                yield name


def _tensor_names(module: nn.Module) -> list[str]:
    """Names of a module's own parameters and parametrized tensors, in order of registration."""
    names = [name for name, parameter in module.named_parameters(recurse=False) if own_name(name) == name]
    if parametrize.is_parametrized(module):
        names += [name for name, _ in module.get_submodule("parametrizations").named_children()]
    return names


def _is_matrix(tensor: Tensor, is_known: bool) -> bool:
    return tensor.ndim > 1 if is_known else sum(size > 1 for size in tensor.shape) > 1


def _is_plain(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:
        return module.padding_mode == "zeros"
    return type(module) in (nn.Linear, FakeQuantConv2d, FakeQuantLinear)
