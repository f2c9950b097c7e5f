"""Shape a candidate: widths, depths and heads of its architecture, and its fresh network."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from nas_compress.data.dataset import Dataset
from nas_compress.devices.device import Device
from nas_compress.errors import RequestError
from nas_compress.models.factorised import factorise_
from nas_compress.models.families import family_named
from nas_compress.pruning.channel_groups import ChannelGroup
from nas_compress.pruning.cutting import cut_network, most_important
from nas_compress.pruning.depth import Kept
from nas_compress.pruning.ranking import surviving_fractions
from nas_compress.pruning.user_module import pruned_widths
from nas_compress.pruning.widths import student_fractions, student_widths, whole_heads
from nas_compress.teacher.teacher import Teacher
from nas_compress.training.sparsity import sparse_layers
from nas_compress.trial.context import TrialContext
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.candidate import PRUNED, Candidate


def channel_step(candidate: Candidate, target: Device) -> int:
    """Return the number that widths are multiples of: the candidate's own, or the target device's."""
    return candidate.round_to or target.channel_step(activation_bits=candidate.activation_bits)


def student_architecture(candidate: Candidate, context: TrialContext, *, seed: int) -> Architecture:
    """Shape the candidate: its family's widths, pruned by the teacher's importances, scaled and rounded."""
    teacher = context.teacher
    return shaped(
        candidate,
        context.dataset,
        step=channel_step(candidate, context.target),
        groups=_vote(candidate, teacher, seed=seed) if is_voted(candidate) else (),
        teacher_family=teacher.family,
        teacher_widths=teacher.base_widths,
        teacher_depths=teacher.depths,
        teacher_heads=teacher.heads,
    )


def is_voted(candidate: Candidate) -> bool:
    """Whether the teacher has a say in the candidate's widths."""
    return candidate.pruning_ratio > 0 or candidate.head_ratio > 0 or candidate.family == PRUNED


def _kept(candidate: Candidate, teacher: Teacher) -> Kept | None:
    """The teacher's blocks that a student of its family stands for; None where that is all of them."""
    return teacher.kept_blocks(candidate.depths, candidate.kept_blocks) if candidate.family == teacher.family else None


def _vote(candidate: Candidate, teacher: Teacher, *, seed: int) -> tuple[ChannelGroup, ...]:
    return teacher.channel_groups(
        candidate.pruning_criterion, seed=seed, kept=_kept(candidate, teacher), heads=candidate.head_ratio > 0
    )


def new_student(candidate: Candidate, architecture: Architecture, teacher: Teacher, *, seed: int) -> nn.Module:
    """The network of that architecture on the CPU: with fresh weights by the seed, or with those it inherits."""
    torch.manual_seed(seed)
    student = _new_student(candidate, architecture, teacher, seed=seed)
    if candidate.zero_pattern != "none":
        sparse_layers(student, candidate.zero_pattern)  # refuses what does not fit, before training
    return student


def _new_student(candidate: Candidate, architecture: Architecture, teacher: Teacher, *, seed: int) -> nn.Module:
    if candidate.init == "scratch":
        return teacher.build(architecture)
    free = {width.layer: width.channels for width in architecture.widths}
    keep = most_important(
        _vote(candidate, teacher, seed=seed),
        lambda group: next(free[layer] for layer in group.layers if layer in free),
    )
    cut = cut_network(teacher.shortened(_kept(candidate, teacher)), architecture.input_shape, keep)
    student: nn.Module = cut
    if candidate.family != PRUNED:
        student = teacher.build(replace(architecture, factorization="none", rank_fraction=1.0))
        student.load_state_dict(cut.state_dict())
    if candidate.factorization != "none":
        factorise_(student, rank_fraction=candidate.rank_fraction, kind=candidate.factorization)
    return student


def shaped(
    candidate: Candidate,
    dataset: Dataset,
    *,
    step: int,
    groups: tuple[ChannelGroup, ...],
    teacher_family: str | None,
    teacher_widths: tuple[int, ...],
    teacher_depths: tuple[int, ...],
    teacher_heads: int | None = None,
) -> Architecture:
    """The candidate's shape under a given vote; a student of the teacher's family starts from the teacher's widths.

    step: widths are multiples of it. teacher_heads: of a transformer's attention, where the teacher is one of ours.
    """
    if candidate.kept_blocks != "first" and (candidate.family != teacher_family or candidate.family == PRUNED):
        raise RequestError(
            f"kept_blocks={candidate.kept_blocks!r} needs a student of the teacher's family, {teacher_family}, "
            f"but got {candidate.family}"
        )
    if candidate.family == PRUNED:
        widths = pruned_widths(
            groups,
            _fractions(candidate, groups),
            width_multiplier=candidate.width_multiplier,
            step=step,
        )
        return _architecture(candidate, dataset, widths)
    family = family_named(candidate.family)
    same = candidate.family == teacher_family
    base = teacher_widths if same else family.base_widths
    if len(candidate.depths) != len(base):
        raise RequestError(
            f"depths must have one entry per stage of {candidate.family} ({len(base)}), "
            f"but got depths={candidate.depths}"
        )
    layers = family.layers(candidate.depths, base, candidate.settings)
    heads = family.multiples([layer for layer, _ in layers], candidate.settings)
    fractions = _fractions(candidate, groups)
    survivors = student_fractions(layers, groups=groups, fractions=fractions, same_family=same)
    widths = student_widths(
        layers,
        [1.0 if candidate.head_ratio > 0 and layer in heads else survivors[layer] for layer, _ in layers],
        width_multiplier=candidate.width_multiplier,
        step=step,
        multiples=heads,
    )
    if candidate.init == "inherit":
        deeper = any(map(operator.gt, candidate.depths, teacher_depths))
        if not same or deeper or len(candidate.depths) != len(teacher_depths):
            raise RequestError(
                "init='inherit' needs a student of the teacher's family and at most its depths, "
                f"{teacher_family} {teacher_depths}, but got {candidate.family} {candidate.depths}"
            )
        _require_inheritable(candidate, widths, layers, heads, teacher_heads, step=step)
    layer_heads: tuple[int, ...] = ()
    if candidate.head_ratio > 0:
        widths, layer_heads = whole_heads(
            widths,
            {layer: survivors[layer] for layer in heads},
            heads=next(iter(heads.values())),
            min_heads=candidate.min_heads,
        )
    distinct = tuple(width for width in widths if not family.repeats(width.layer, candidate.settings))
    own = [not family.repeats(layer, candidate.settings) for layer in heads]
    layer_heads = tuple(itertools.compress(layer_heads, own))
    return family.complete(replace(_architecture(candidate, dataset, distinct), layer_heads=layer_heads))


def _require_inheritable(
    candidate: Candidate,
    widths: tuple[Width, ...],
    layers: Sequence[tuple[str, int]],
    heads: Mapping[str, int],
    teacher_heads: int | None,
    *,
    step: int,
) -> None:
    """Raise RequestError for a layer that is wider than the teacher's, or an attention whose heads would be cut.

    widths: before whole heads go; heads: the number of them in each attention.
    """
    for width, (layer, channels) in zip(widths, layers, strict=True):
        if width.channels > channels:
            raise RequestError(
                f"init='inherit' needs at most the teacher's {channels} channels in {layer}, "
                f"but got {width.channels} (in steps of {step})"
            )
        if layer in heads and width.channels != channels:
            raise RequestError(
                f"init='inherit' needs the teacher's {channels} channels in attention {layer}, whose heads cannot get "
                f"narrower, but got {width.channels}; head_ratio removes whole heads"
            )
        if layer in heads and teacher_heads is not None and heads[layer] != teacher_heads:
            raise RequestError(
                f"init='inherit' needs the teacher's {teacher_heads} heads in attention, but got heads={heads[layer]}"
            )


def _fractions(candidate: Candidate, groups: tuple[ChannelGroup, ...]) -> tuple[float, ...]:
    if not groups:
        return ()
    return surviving_fractions(
        groups,
        candidate.pruning_ratio,
        ranking=candidate.pruning_ranking,
        min_channels=candidate.pruning_min_channels,
        head_ratio=candidate.head_ratio,
        min_heads=candidate.min_heads,
    )


def _architecture(candidate: Candidate, dataset: Dataset, widths: tuple[Width, ...]) -> Architecture:
    return Architecture(
        family=candidate.family,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        depths=candidate.depths,
        widths=widths,
        mean=dataset.mean,
        std=dataset.std,
        settings=candidate.settings,
        factorization=candidate.factorization,
        rank_fraction=candidate.rank_fraction,
    )
