"""Fit of the classifiers of exits to the features of a trained network, which stay unchanged."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.models.exits.network import EarlyExits, ExitHead
from nas_compress.models.exits.passes import batches
from nas_compress.models.features import OneInputNetwork

WEIGHT_DECAY = 1e-4
STEPS = 200
"""Limit of the iterations of L-BFGS; the loss is convex."""


def fit_exits_(
    network: EarlyExits, frozen: OneInputNetwork, samples: Tensor, labels: Tensor, *, padded: bool = False
) -> None:
    """Fit every exit of `network` to the features of `frozen`, its trained and quantized backbone.

    samples, labels: of the training split, (N, ...) and int64 (N,). The fit draws no random numbers. padded: samples
    are token ids with padding.
    """
    exits = network.exits
    pooled: list[list[Tensor]] = [[] for _ in exits.after]
    answers: list[Tensor] = []
    heads = [head for head in network.heads if isinstance(head, ExitHead)]
    with torch.no_grad():
        for batch in batches(samples, padded=padded):
            seen = frozen.observe(batch)
            for parts, name, head in zip(pooled, exits.after, heads, strict=True):
                parts.append(head.pooled(seen.features[name], seen.mask))
            answers.append(seen.outputs[frozen.output])
    targets = labels if exits.target == "labels" else torch.cat(answers).softmax(1)
    for head, parts in zip(heads, pooled, strict=True):
        _fit_(head.classifier, torch.cat(parts), targets, hinge=exits.confidence == "hinge")


def _fit_(layer: nn.Linear, features: Tensor, targets: Tensor, *, hinge: bool) -> None:
    """Fit a linear layer to standardised features (N, c), and put the standardisation into its weights.

    hinge: squared hinge loss of one class against the rest, else cross-entropy. targets: classes (N,) or probabilities
    (N, K).
    """
    mean, deviation = features.mean(0), features.std(0, correction=0).clamp_min(1e-6)
    scaled = (features - mean) / deviation
    weight = torch.zeros_like(layer.weight, requires_grad=True)
    bias = torch.zeros_like(layer.bias, requires_grad=True)
    signs = 2.0 * F.one_hot(targets, len(layer.bias)) - 1 if hinge else None
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        scores = F.linear(scaled, weight, bias)
        error = F.cross_entropy(scores, targets) if signs is None else (1 - signs * scores).clamp_min(0).square().mean()
        total = error + WEIGHT_DECAY * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        layer.weight.copy_(weight / deviation)
        layer.bias.copy_(bias - (weight / deviation) @ mean)
