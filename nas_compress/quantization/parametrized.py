"""Rounding of single parameters, for layers and functions of any kind.

A parametrization of torch replaces a parameter by a function of it, at each use and in any module. The exporters follow
it, so the file has the stored form of the parameter and the operations between it and the product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nas_compress.quantization.weight_quantizers import WeightQuantizer


class RoundedParameter(nn.Module):
    """Fake quantization of a parameter, in training."""

    def __init__(self, quantizer: WeightQuantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, weights: Tensor) -> Tensor:
        """Return the rounded weights."""
        rounded: Tensor = self.quantizer(weights)
        return rounded


class StoredParameter(nn.Module):
    """Stored weights in place of a parameter.

    stored: module that returns the weights.
    """

    def __init__(self, stored: nn.Module) -> None:
        super().__init__()
        self.stored = stored

    def forward(self, *_: object) -> Tensor:
        """Return the stored weights."""
        weights: Tensor = self.stored()
        return weights


def round_parameter_(module: nn.Module, name: str, quantizer: WeightQuantizer) -> None:
    """Give one parameter fake quantization. The parameter itself stays, so an optimiser keeps it."""
    _register_(module, name, RoundedParameter(quantizer))


def store_parameter_(module: nn.Module, name: str, stored: nn.Module) -> None:
    """Replace one parameter by stored weights, and drop its values."""
    _register_(module, name, StoredParameter(stored))
    _drop_original_(_functions(module, name))


@contextmanager
def replaced(module: nn.Module, name: str, values: Tensor) -> Iterator[None]:
    """Let one parameter have other values inside the block, also if functions of torch compute it."""
    if not parametrize.is_parametrized(module, name):
        parameter: Tensor = getattr(module, name)
        own = parameter.detach().clone()
        try:
            parameter.copy_(values)
            yield
        finally:
            parameter.copy_(own)
        return
    functions = _functions(module, name)
    functions.append(_Constant(values))
    try:
        yield
    finally:
        del functions[len(functions) - 1]


class _Constant(nn.Module):
    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values, persistent=False)

    def forward(self, _: Tensor) -> Tensor:
        values: Tensor = self.values  # type: ignore[assignment]
        return values


def is_stored(module: nn.Module, name: str) -> bool:
    """Return True if a parameter is replaced by stored weights."""
    return stored_form(module, name) is not None


def stored_form(module: nn.Module, name: str) -> nn.Module | None:
    """Return the module with the stored weights of a parameter; None if it is not stored."""
    last = _functions(module, name)[-1] if parametrize.is_parametrized(module, name) else None
    return last.stored if isinstance(last, StoredParameter) else None


@torch.no_grad()
def freeze_parameters_(network: nn.Module, freeze: Callable[[nn.Module, WeightQuantizer, Tensor], nn.Module]) -> None:
    """Replace fake quantization of parameters by stored weights.

    freeze: from a module, its quantizer and the weights before rounding to the stored weights. Called once for each
    quantizer.
    """
    made: dict[nn.Module, nn.Module] = {}
    for module in [module for module in network.modules() if parametrize.is_parametrized(module)]:
        for name in module.parametrizations:  # type: ignore[union-attr]
            functions = _functions(module, name)
            last = functions[-1]
            if isinstance(last, RoundedParameter):
                if last.quantizer not in made:
                    made[last.quantizer] = freeze(module, last.quantizer, _before_last(functions))
                functions[-1] = StoredParameter(made[last.quantizer])
                _drop_original_(functions)


def _register_(module: nn.Module, name: str, function: nn.Module) -> None:
    if parametrize.is_parametrized(module) and not parametrize.is_parametrized(module, name):
        # torch adds a property to the module's class, which a copied module shares with its original
        module.__class__ = type(type(module).__name__, (type(module),), {})
    parametrize.register_parametrization(module, name, function, unsafe=True)


def _functions(module: nn.Module, name: str) -> parametrize.ParametrizationList:
    functions: parametrize.ParametrizationList = module.get_submodule(f"parametrizations.{name}")  # type: ignore[assignment]
    return functions


def _drop_original_(functions: parametrize.ParametrizationList) -> None:
    if len(functions) == 1:  # another function in front still reads it
        functions.register_parameter("original", None)


def _before_last(functions: parametrize.ParametrizationList) -> Tensor:
    """Return the input of the last function."""
    seen: list[Tensor] = []
    hook = functions[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    functions()
    hook.remove()
    return seen[0]
