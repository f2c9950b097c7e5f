"""A network with early exits: a small classifier and a gate behind each of some stages or layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.models.exits.branch_ops import early_exit, last_exit
from nas_compress.models.features import BEFORE_STAGES, OneInputNetwork
from nas_compress.models.layers import ActivationPoint
from nas_compress.models.token_padding import masked_mean
from nas_compress.tasks.batch import Batch
from nas_compress.values.exits.settings import EXIT, PATIENCE, THRESHOLD, Exits
from nas_compress.values.signature import BATCH, Signature, TensorSpec

BACKBONE = "backbone"
"""Attribute of `EarlyExits` with the whole network, and the start of the paths of its layers."""


def _max_probability(logits: Tensor, classes: int) -> Tensor:
    return logits.softmax(1).amax(1)


def _low_entropy(logits: Tensor, classes: int) -> Tensor:
    logs = logits.log_softmax(1)
    return 1 + (logs.exp() * logs).sum(1) / math.log(classes)


def _margin(logits: Tensor, classes: int) -> Tensor:
    first, second = logits.softmax(1).topk(2, dim=1).values.unbind(1)
    return first - second


def _largest_score(logits: Tensor, classes: int) -> Tensor:
    return logits.amax(1)


def _agreements(answers: Sequence[Tensor]) -> list[Tensor]:
    """Return for each exit the number of exits in a row, up to this one, with the same answer."""
    chosen = [each.argmax(1) for each in answers]
    runs = [torch.ones_like(chosen[0], dtype=torch.float32)]
    for before, after in itertools.pairwise(chosen):
        runs.append(torch.where(before == after, runs[-1] + 1, torch.ones_like(runs[-1])))
    return runs


CONFIDENCE: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "max_probability": _max_probability,
    "entropy": _low_entropy,
    "margin": _margin,
    "hinge": _largest_score,
}
"""From answers (N, K) and K to confidences (N,), by the names in CONFIDENCES without `patience`."""


class ExitHead(nn.Module):
    """Mean over positions, an activation point, and a linear classifier whose outputs stay float.

    Features are (N, c, h, w) or (N, tokens, c). Padding, at which the mask bool (N, tokens) is False, has no part.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pool, self.point = nn.AdaptiveAvgPool2d(1), ActivationPoint()
        self.classifier = nn.Linear(inputs, outputs)
        nn.init.normal_(self.classifier.weight, std=inputs**-0.5)
        nn.init.zeros_(self.classifier.bias)

    def pooled(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map features to means (N, c)."""
        return self._pooled(features, mask).flatten(1)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map features to (N, outputs)."""
        answers: Tensor = self.classifier(self.point(self._pooled(features, mask)).flatten(1))
        return answers

    def _pooled(self, features: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            return masked_mean(features, mask)
        means: Tensor = self.pool(features) if features.ndim == 4 else features.mean(1)
        return means


class EarlyExits(nn.Module):
    """A network with exits: each sample gets the answer of the first exit that is confident enough, else of the end.

    It returns the answers (N, K) and the numbers of the exits taken (N,). In torch all exits are computed; the exported
    file has N = 1 and computes no more than the sample needs.

    backbone: with stages or layers and one output (N, K). sample: a batch for its shapes. No sample leaves before
    thresholds are set. RequestError if the backbone has no such stages.
    """

    def __init__(self, backbone: nn.Module, exits: Exits, *, sample: Tensor) -> None:
        super().__init__()
        if not isinstance(backbone, OneInputNetwork):
            raise RequestError(
                f"exits must be in a network with stages or layers, but got {type(backbone).__name__}; "
                "use another family, or no exits"
            )
        was_training = backbone.training
        with torch.no_grad():
            seen = backbone.eval().observe(sample)
        backbone.train(was_training)
        answers, features = seen.outputs[backbone.output], seen.features
        _require_stages(exits, tuple(features), tuple(answers.shape))
        self.backbone, self.exits, self._classes = backbone, exits, answers.shape[1]
        widths = [features[name].shape[1 if features[name].ndim == 4 else 2] for name in exits.after]
        self.heads = nn.ModuleList(ExitHead(width, answers.shape[1]) for width in widths)
        for number in range(len(widths)):
            self.register_buffer(f"{THRESHOLD}{number}", torch.full((1,), math.inf))

    def set_thresholds_(self, thresholds: Sequence[float]) -> None:
        """Let a sample leave at an exit if its confidence reaches the threshold; inf for never."""
        self.exits.check_thresholds(thresholds)
        for number, threshold in enumerate(thresholds):
            self.get_buffer(f"{THRESHOLD}{number}").fill_(threshold)

    def thresholds(self) -> tuple[float, ...]:
        """Return the threshold of each exit; inf for never."""
        return tuple(float(self.get_buffer(f"{THRESHOLD}{number}")) for number in range(len(self.heads)))

    def answers(self, samples: Tensor) -> list[Tensor]:
        """Return the answers (N, K) of every exit, those of the end last."""
        seen = self.backbone.observe(samples)
        early = [head(seen.features[name], seen.mask) for name, head in zip(self.exits.after, self.heads, strict=True)]
        return [*early, seen.outputs[self.backbone.output]]

    def confidences(self, early: Sequence[Tensor]) -> list[Tensor]:
        """Return the confidence (N,) of each exit. early: answers (N, K) of every exit before the end."""
        if self.exits.confidence == PATIENCE:
            return _agreements(early)
        return [CONFIDENCE[self.exits.confidence](answers, self._classes) for answers in early]

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Map raw samples (N, ...) to answers (N, K) and numbers of exits int64 (N,)."""
        *early, chosen = self.answers(samples)
        exit_, sure = last_exit(chosen, len(early)), self.confidences(early)
        for number in reversed(range(len(early))):
            threshold = self.get_buffer(f"{THRESHOLD}{number}")
            chosen, exit_ = early_exit(sure[number], threshold, early[number], chosen, exit_, number)
        return chosen, exit_


def first_input(batch: Batch, *, device: str = "cpu") -> Tensor:
    """Return two samples of the only input; RequestError if there are several inputs."""
    if len(batch) != 1:
        raise RequestError(f"exits need a network with one input, but got {', '.join(batch)}")
    return next(iter(batch.values()))[:2].to(device)


def exit_signature(signature: Signature) -> Signature:
    """Return the inputs and outputs of a network with exits: those of the network, and `exit`, int64 (N,)."""
    number = TensorSpec(name=EXIT, dtype="int64", shape=(BATCH,))
    return Signature(inputs=signature.inputs, outputs=(*signature.outputs, number))


def exit_bits(layer_bits: Mapping[str, int], exits: Exits, *, end_bits: int) -> dict[str, int]:
    """Return the weight bits of a network with exits by path. layer_bits: of its backbone. end_bits: of the exits."""
    own = {f"{BACKBONE}.{layer}": bits for layer, bits in layer_bits.items()}
    return own | {f"heads.{number}.classifier": end_bits for number in range(len(exits.after))}


def _require_stages(exits: Exits, features: tuple[str, ...], answers: tuple[int, ...]) -> None:
    if len(answers) != 2:
        raise RequestError(f"exits need a network with one output (N, K), but got {answers}")
    places = [name for name in features[:-1] if name not in BEFORE_STAGES]
    wanted = [name for name in exits.after if name not in places]
    if wanted:
        known, way = (", ".join(places), "") if places else ("none", "; use another family, or no exits")
        raise RequestError(
            f"an exit must be after a stage or layer before the last one ({known}), but got {wanted[0]!r}{way}"
        )
    order = tuple(name for name in places if name in exits.after)
    if order != exits.after:
        raise RequestError(f"exits must be in forward order ({', '.join(order)}), but got {', '.join(exits.after)}")
