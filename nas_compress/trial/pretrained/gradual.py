"""Gradual cuts of a student that begins as its teacher, before it learns at its own width.

HomoDistil's way (Liang et al. 2023, arXiv 2302.09632), without masked words: a few units go before each of the first
epochs, the least important ones of the network as it is then, while terms on the teacher's layers hold it near. A
number of units follows the cubic law of Zhu, Gupta 2017, arXiv 1710.01878.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from nas_compress.errors import RequestError
from nas_compress.losses.table import feature_terms
from nas_compress.losses.term_kinds import STAGE
from nas_compress.losses.transformer_features import TokenLoss
from nas_compress.models.families import FAMILIES
from nas_compress.pruning.channel_groups import ChannelGroup, TracedGroup
from nas_compress.pruning.cutting import cut_network, most_important
from nas_compress.pruning.head_importance import rank_heads
from nas_compress.pruning.importance_criteria import rank_channels
from nas_compress.pruning.inherited_weights import load_inherited_
from nas_compress.teacher.teacher import Teacher, loss_samples
from nas_compress.training.objective import TrainingObjective
from nas_compress.trial.shape import kept_of
from nas_compress.values.candidate import Candidate


def units_after(whole: int, final: int, cut: int, cuts: int) -> int:
    """Return the number of units after a cut, from `whole` to `final`.

    >>> [units_after(16, 4, cut, 4) for cut in range(5)]
    [16, 9, 6, 4, 4]
    """
    return round(final + (whole - final) * (1 - cut / cuts) ** 3)


@dataclass(kw_only=True, eq=False)
class GradualCuts:
    """The network of a student between its cuts.

    student: of the final shape. stream: numbers of the teacher's channels of the stream that are left.
    """

    candidate: Candidate
    student: nn.Module
    teacher: Teacher
    seed: int
    network: nn.Module = field(init=False)
    stream: list[int] = field(init=False, default_factory=list)
    _whole: dict[tuple[str, ...], int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.network = self.teacher.shortened(kept_of(self.candidate, self.teacher))

    def cut(self, number: int) -> nn.Module:
        """Make cut `number`, from 1, by the importance of units now; return the network on the teacher's device."""
        pruning, example = self.candidate.pruning, self.teacher.dataset.example
        samples = loss_samples(self.teacher.labelled_samples, self.teacher.dataset.task)
        network = self.network  # at first the teacher's own
        groups = rank_channels(network, example, criterion=pruning.criterion, seed=self.seed, samples=samples)
        if pruning.head_ratio > 0:
            groups = rank_heads(groups, network, example, samples)
        for group in groups:
            self._whole.setdefault(group.layers, len(group.importance))

        def channels(group: ChannelGroup) -> int:
            final = self._final(group.layers) // group.unit
            return group.unit * units_after(self._whole[group.layers], final, number, pruning.rounds)

        chosen = most_important(groups, channels)
        stream = getattr(FAMILIES[self.candidate.shape.family], "stream", "")

        def keep(traced: TracedGroup) -> Sequence[int] | None:
            units = chosen(traced)
            if units is not None and stream in traced.layers:
                before = self.stream or list(range(len(traced.units)))
                self.stream = [before[unit] for unit in units]
            return units

        device = next(self.teacher.network.parameters()).device
        self.network = cut_network(network, example, keep).requires_grad_(True).to(device)
        return self.network

    def select_(self, objective: TrainingObjective) -> None:
        """Let the projections of layers begin as the selection of the channels that are left, in place."""
        for learner in objective.learners:
            for loss in learner.modules():
                for projection in loss.projections if isinstance(loss, TokenLoss) else ():
                    weight = projection.weight
                    if isinstance(weight, nn.Parameter) and weight.shape[1] == len(self.stream):
                        with torch.no_grad():
                            weight.copy_(torch.eye(weight.shape[0], device=weight.device)[:, self.stream])

    def finish_(self) -> None:
        """Load the weights that are left into the student, in place."""
        load_inherited_(self.student, self.network)

    def _final(self, layers: Sequence[str]) -> int:
        modules = (self.student.get_submodule(layer) for layer in layers)
        return next(module.out_features for module in modules if isinstance(module, nn.Linear))


def teach_gradually(cuts: GradualCuts, fit_epoch: Callable[[nn.Module, int], dict[str, float]]) -> dict[str, float]:
    """Cut and train in turn, an epoch after each cut; return the terms of the last one.

    fit_epoch: trains the network after a cut in place; it gets the network and the number of finished epochs.
    """
    losses: dict[str, float] = {}
    for number in range(1, cuts.candidate.pruning.rounds + 1):
        losses = fit_epoch(cuts.cut(number), number - 1)
    cuts.finish_()
    return losses


def require_gradual(candidate: Candidate, epochs: int) -> None:
    """Require a student that inherits, something to cut, and a term on layers that holds it near its teacher."""
    pruning, rounds = candidate.pruning, candidate.pruning.rounds
    family = candidate.shape.family
    scheduled = any(not dict(term.settings).keys().isdisjoint(STAGE) for term in candidate.losses)
    for fits, rule, got in (
        (family in FAMILIES and FAMILIES[family].has_attention, "a family of encoder layers (vit, encoder)", family),
        (pruning.init == "inherit", "init='inherit'", f"init={pruning.init!r}"),
        (pruning.ratio > 0 or pruning.head_ratio > 0, "pruning_ratio or head_ratio above 0", "neither"),
        (bool(feature_terms(candidate.losses)), "a loss on the teacher's features, such as hidden_state", "none"),
        (candidate.teaching.teacher == "fixed", "teacher='fixed'", f"teacher={candidate.teaching.teacher!r}"),
        (
            not (scheduled or candidate.teaching.annealing or candidate.teaching.soft_stop < 1),
            "losses without begin, end, annealing and soft_stop",
            "one of these",
        ),
        (candidate.shape.factorization == "none", "no factorization", candidate.shape.factorization),
        (candidate.data_size is None, "the teacher's vocabulary and size", f"size {candidate.data_size}"),
        (epochs > rounds, f"training.epochs > {rounds}, an epoch after each cut and one more", str(epochs)),
    ):
        if not fits:
            raise RequestError(f"pruning_rounds={rounds} (gradual cuts) needs {rule}, but got {got}")
