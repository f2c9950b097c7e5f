"""Unstructured sparsity: choose zeros while a network trains once, and keep them.

The exported file is as fast as the dense one on a CPU. It is smaller if its storage omits the zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from nas_compress.errors import RequestError

ONE_SHOT_AT = 0.5
"""Fraction of the steps before `one_shot` and `two_four` choose their zeros; the other steps recover."""

GRADUAL_FROM, GRADUAL_TO, GRADUAL_UPDATES = 0.1, 0.7, 100
"""Fractions of the steps at the first and last update of `gradual`, and its number of updates."""

DROP_RATE = 0.5
"""Probability per step to drop a weight or unit selected by targeted dropout."""

DENSE_SHARE = 0.01
"""Fraction of largest weights kept in every layer, because a ranking over all layers could empty one."""


def sparse_layers(network: nn.Module, pattern: str) -> list[tuple[str, nn.Parameter]]:
    """Return paths and weights of the convolutions and linear layers with zeros, in the network's order.

    Subclasses and convolutions of any dimension count. Patterns over the inputs or outputs of a layer leave transposed
    convolutions dense. `two_four` also leaves layers of fewer than 4 inputs dense (the first, depthwise ones). Weights
    computed by a parametrization stay dense, because their zeros would not be those of a parameter.

    RequestError if the inputs of another layer cannot be divided by 4.
    """
    found = []
    for path, module in network.named_modules():
        if not isinstance(module, _ConvNd | nn.Linear) or not isinstance(module.weight, nn.Parameter):
            continue
        if isinstance(module, _ConvTransposeNd) and pattern not in ("one_shot", "gradual"):
            continue
        inputs = module.weight.shape[1]
        if pattern == "two_four" and inputs < 4:
            continue
        if pattern == "two_four" and inputs % 4:
            raise RequestError(f"zero_pattern='two_four' needs inputs in fours, but layer {path} has {inputs}")
        found.append((path, module.weight))
    if not found:
        raise RequestError(f"zero_pattern={pattern!r} needs a convolution or linear layer, but the network has none")
    return found


class Sparsifier:
    """Choose and keep the zeros of a network while `train` runs.

    pattern: `zero_pattern` of a candidate. fraction: its `zero_fraction`, of the weights of all `sparse_layers`. seed:
    of targeted dropout.
    """

    def __init__(self, network: nn.Module, *, pattern: str, fraction: float, seed: int) -> None:
        self._weights = [weight for _, weight in sparse_layers(network, pattern)]
        self._pattern, self._fraction, self._seed = pattern, fraction, seed
        self._chosen, self._settled = 0.0, False
        self._masks: list[Tensor] = []
        self._held: list[Tensor] = []
        self._random: torch.Generator | None = None

    @torch.no_grad()
    def before_forward(self, step: int, steps: int) -> None:
        """Choose zeros if due at this step (from 0); apply targeted dropout."""
        if self._settled:
            return
        if self._pattern.startswith("targeted"):
            self._drop()
            return
        fraction = zero_fraction_at(step, steps=steps, pattern=self._pattern, final=self._fraction)
        due = fraction == self._fraction or step % max(1, steps // GRADUAL_UPDATES) == 0
        if fraction > self._chosen and due:
            self._choose(fraction)

    @torch.no_grad()
    def before_update(self) -> None:
        """Restore dropped weights without their gradient of this step."""
        for weight, mask, held in zip(self._weights, self._masks, self._held, strict=False):
            weight.copy_(held)
            if weight.grad is not None:
                weight.grad.mul_(mask)

    @torch.no_grad()
    def after_update(self) -> None:
        """Set the zeros again, because the optimiser's momentum changes weights without gradients too."""
        if not self._held:
            for weight, mask in zip(self._weights, self._masks, strict=False):
                weight.mul_(mask)

    @torch.no_grad()
    def finish(self) -> None:
        """Fix the final zeros; targeted dropout chooses them now. A later call of `train` keeps them."""
        if self._pattern.startswith("targeted"):
            self._held = []
            if not self._settled:
                self._choose(self._fraction)
        self._settled = True

    def state(self) -> dict[str, Any]:
        """Return the state as copies, unaffected by later steps."""
        return {
            "chosen": self._chosen,
            "settled": self._settled,
            "masks": [mask.clone() for mask in self._masks],
            "held": [weight.clone() for weight in self._held],
            "random": None if self._random is None else self._random.get_state(),
        }

    def require_fitting(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError, KeyError or TypeError unless `state` belongs to these weights."""
        shapes = [weight.shape for weight in self._weights]
        for name in ("masks", "held"):
            found = [tensor.shape for tensor in state[name]]
            if found not in ([], shapes):
                raise ValueError(f"{name} have the shapes {found} instead of {shapes}")

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        self._chosen, self._settled = state["chosen"], state["settled"]
        self._masks, self._held = list(state["masks"]), list(state["held"])
        if state["random"] is not None:
            self._random = torch.Generator(self._weights[0].device)
            self._random.set_state(state["random"])

    def _choose(self, fraction: float) -> None:
        self._chosen = fraction
        self._masks = zero_masks(self._weights, fraction, pattern=self._pattern)
        for weight, mask in zip(self._weights, self._masks, strict=True):
            weight.mul_(mask)

    def _drop(self) -> None:
        device = self._weights[0].device
        if self._random is None:
            self._random = torch.Generator(device).manual_seed(self._seed)
        aimed = zero_masks(self._weights, self._fraction, pattern=self._pattern)
        self._held = [weight.detach().clone() for weight in self._weights]
        self._masks = []
        for weight, mask in zip(self._weights, aimed, strict=True):
            shape = mask.shape if self._pattern == "targeted_weight" else (len(mask), *[1] * (mask.ndim - 1))
            dropped = torch.rand(shape, generator=self._random, device=device) < DROP_RATE
            self._masks.append(torch.where(dropped, mask, torch.ones_like(mask)))
            weight.mul_(self._masks[-1])


@torch.no_grad()
def with_zeros(network: nn.Module, *, pattern: str, fraction: float) -> nn.Module:
    """Return a copy of a network with zeros chosen now; the network itself for pattern `none`.

    A fresh network with zeros predicts the file size of the trained one.
    """
    if pattern == "none":
        return network
    copy = deepcopy(network)
    weights = [weight for _, weight in sparse_layers(copy, pattern)]
    for weight, mask in zip(weights, zero_masks(weights, fraction, pattern=pattern), strict=True):
        weight.mul_(mask)
    return copy


def zero_fraction_at(step: int, *, steps: int, pattern: str, final: float) -> float:
    """Return the fraction of zeros at a step (from 0) of `steps`.

    `gradual` follows s_f (1 - (1 - t)^3) with t from 0 to 1 (Zhu, Gupta 2017, arXiv 1710.01878, equation 1); the other
    patterns have none until they choose.

    >>> [round(zero_fraction_at(step, steps=10, pattern="gradual", final=0.8), 3) for step in (0, 1, 4, 7, 9)]
    [0.0, 0.0, 0.7, 0.8, 0.8]
    """
    if pattern != "gradual":
        return final if step >= round(ONE_SHOT_AT * steps) else 0.0
    first, last = round(GRADUAL_FROM * steps), round(GRADUAL_TO * steps)
    done = min(1.0, max(0.0, (step - first) / max(1, last - first)))
    return final * (1 - (1 - done) ** 3) if step < steps - 1 else final


def zero_masks(weights: Sequence[Tensor], fraction: float, *, pattern: str) -> list[Tensor]:
    """Return a mask per weight tensor: 1 to keep, 0 to remove.

    `one_shot`, `gradual`: the smallest over all layers (Han et al. 2015, arXiv 1506.02626); `targeted_weight`: the
    smallest of each output, `targeted_unit`: the outputs of the smallest norm of each layer (Gomez et al. 2019, arXiv
    1905.13678); `two_four`: the two smallest of each four neighbouring inputs (Mishra et al. 2021, arXiv 2104.08378).
    """
    if pattern == "two_four":
        return [_two_of_four(weight) for weight in weights]
    if pattern == "targeted_weight":
        return [_smallest(weight.abs().flatten(1), fraction).view(weight.shape).to(weight.dtype) for weight in weights]
    if pattern == "targeted_unit":
        return [_units(weight, fraction) for weight in weights]
    return _over_all(weights, fraction)


def _over_all(weights: Sequence[Tensor], fraction: float) -> list[Tensor]:
    sizes = [weight.numel() for weight in weights]
    scores = []
    for weight in weights:
        score = weight.detach().abs().flatten().clone()
        score[score.topk(max(1, int(DENSE_SHARE * len(score)))).indices] = torch.inf
        scores.append(score)
    kept = _smallest(torch.cat(scores)[None], fraction)[0].to(weights[0].dtype)
    return [part.view(weight.shape) for part, weight in zip(torch.split(kept, sizes), weights, strict=True)]


def _smallest(scores: Tensor, fraction: float) -> Tensor:
    """Return False at the `fraction` smallest entries of each row of (rows, n)."""
    count = min(round(fraction * scores.shape[1]), scores.shape[1] - 1)
    kept = torch.ones_like(scores, dtype=torch.bool)
    kept.scatter_(1, scores.argsort(dim=1, stable=True)[:, :count], False)
    return kept


def _units(weight: Tensor, fraction: float) -> Tensor:
    kept = _smallest(weight.detach().flatten(1).norm(dim=1)[None], fraction)[0]
    return kept.to(weight.dtype).view(-1, *[1] * (weight.ndim - 1)).expand_as(weight).clone()


def _two_of_four(weight: Tensor) -> Tensor:
    inputs_last = weight.detach().abs().movedim(1, -1)
    kept = _smallest(inputs_last.reshape(-1, 4), 0.5).view(inputs_last.shape)
    return kept.movedim(-1, 1).to(weight.dtype).contiguous()
