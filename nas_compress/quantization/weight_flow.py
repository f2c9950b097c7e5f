"""Flow of parameters into products, found by one pass of a network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas_compress.models.unfused_attention import plain_attention
from nas_compress.tasks.batch import Batch

FACTORS = {
    "convolution": (0, 1),
    "mm": (0, 1),
    "bmm": (0, 1),
    "mv": (0, 1),
    "addmm": (1, 2),
    "addmv": (1, 2),
    "baddbmm": (1, 2),
    "addbmm": (1, 2),
    "_trilinear": (0, 1, 2),
    "embedding": (0,),
    "mkldnn_rnn_layer": (1, 2),
    "_scaled_dot_product_flash_attention_for_cpu": (0, 1, 2),
}
"""Factors of each product among its arguments. Layers and functions of torch end in these operators."""

_ORIGINAL = re.compile(r"(?:^|(?<=\.))parametrizations\.(\w+)\.original\d*$")


@dataclass(frozen=True, kw_only=True)
class WeightFlow:
    """Parameters that a network multiplies its values by.

    multiplied: names in the order of their first use. A parameter with functions between it and the product, such as a
    norm, counts too.
    used_elsewhere: names of parameters multiplied outside their own module, or of a layer whose attributes another
    module reads.
    """

    multiplied: tuple[str, ...]
    used_elsewhere: frozenset[str]


@torch.no_grad()
def weight_flow(network: nn.Module, samples: Batch) -> WeightFlow | None:
    """Run the network once on these samples; None if it cannot run under observation.

    network: its mode and torch's random state are restored. samples: on the network's device.
    """
    training = {module: module.training for module in network.modules()}
    observer = _Observer(network.eval())
    try:
        with torch.random.fork_rng(devices=[]), plain_attention(), observer.watched(), observer:
            network(*samples.values())
    except Exception:  # a user's forward may do anything with its tensors
        return None
    finally:
        for module, mode in training.items():
            module.training = mode
    return WeightFlow(multiplied=tuple(observer.multiplied), used_elsewhere=frozenset(observer.used_elsewhere))


def own_name(name: str) -> str:
    """Return the attribute's name of a parameter, which a parametrization renames.

    >>> own_name("head.parametrizations.weight.original1"), own_name("head.bias")
    ('head.weight', 'head.bias')
    """
    return _ORIGINAL.sub(r"\1", name)


class _Observer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follow tensors computed from parameters and constants alone, and reads of layers by other modules."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.multiplied: dict[str, None] = {}
        self.used_elsewhere: set[str] = set()
        self._running: Counter[int] = Counter()
        self._paths: dict[nn.Module, list[str]] = {}
        for path, module in network.named_modules(remove_duplicate=False):
            self._paths.setdefault(module, []).append(path)
        self._owners = {path: module for module, paths in self._paths.items() for path in paths}
        # tensors are kept, so that no other one gets their identity
        self._sources: dict[int, tuple[Tensor, frozenset[str]]] = {}
        for name, parameter in network.named_parameters(remove_duplicate=False):
            self._remember(parameter, self._names(parameter) | {own_name(name)})
        for buffer in network.buffers():
            self._remember(buffer, frozenset())

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Record the running modules, and reads of a layer's parameters and sizes while it does not run."""
        with ExitStack() as stack:
            for module in self._paths:
                stack.callback(module.register_forward_pre_hook(self._counting(1)).remove)
                stack.callback(module.register_forward_hook(self._counting(-1)).remove)
                if type(module) in (nn.Conv2d, nn.Linear):
                    stack.callback(setattr, module, "__class__", type(module))
                    module.__class__ = _reporting(type(module), self._read)
            yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if all(id(each) in self._sources for each in given):
            names = frozenset[str]().union(*(self._names(each) for each in given))
            for made in tree_leaves(result):
                if isinstance(made, Tensor):
                    self._remember(made, names)
        else:
            for place in FACTORS.get(func.overloadpacket.__name__, ()):
                self._multiply(self._names(args[place]))
        return result

    def _multiply(self, names: frozenset[str]) -> None:
        for name in sorted(names):
            self.multiplied.setdefault(name)
            owner = self._owners.get(name.rpartition(".")[0])
            if owner is not None and not self._running[id(owner)]:
                self.used_elsewhere.add(name)

    def _read(self, module: nn.Module) -> None:
        if not self._running[id(module)]:
            self.used_elsewhere.update(f"{path}.weight" for path in self._paths[module])

    def _names(self, tensor: Tensor) -> frozenset[str]:
        """Return the parameters of a tensor that is computed from them alone; empty for all others."""
        return self._sources.get(id(tensor), (tensor, frozenset[str]()))[1]

    def _remember(self, tensor: Tensor, names: frozenset[str]) -> None:
        self._sources[id(tensor)] = tensor, names

    def _counting(self, step: int) -> Callable[..., None]:
        def count(module: nn.Module, *_: object) -> None:
            self._running[id(module)] += step

        return count


def _reporting(kind: type[nn.Module], report: Callable[[nn.Module], None]) -> type[nn.Module]:
    """Return a subclass with a report of each read of a parameter or size."""
    names = {"weight", "bias", *getattr(kind, "__constants__", ())}

    def read(module: nn.Module, name: str) -> Any:
        if name in names:
            report(module)
        return kind.__getattribute__(module, name)

    return type(kind.__name__, (kind,), {"__getattribute__": read})
