"""Shape of a candidate: widths, depths and heads of its architecture, and its untrained network."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from nas_compress.data.dataset import Dataset
from nas_compress.devices.protocol import Device
from nas_compress.models.factorised import factorise_
from nas_compress.models.families import FAMILIES
from nas_compress.pruning.channel_groups import ChannelGroup
from nas_compress.pruning.cutting import cut_network, most_important
from nas_compress.pruning.depth import Kept
from nas_compress.pruning.inherited_weights import load_inherited_
from nas_compress.pruning.pruned_family import pruned_widths
from nas_compress.pruning.ranking import surviving_fractions
from nas_compress.pruning.teacher_shape import TeacherShape, require_inheritable, require_shape, with_open_settings
from nas_compress.pruning.widths import student_fractions, student_widths, whole_heads
from nas_compress.quantization.traced.activation_points import with_activation_points
from nas_compress.tasks.batch import Batch
from nas_compress.teacher.derived import pretrained
from nas_compress.teacher.pretrained.kept_tokens import keep_tokens_
from nas_compress.teacher.teacher import Teacher
from nas_compress.training.random_state import seed_all
from nas_compress.trial.context import TrialContext
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.candidate import PRUNED, Candidate


def channel_step(candidate: Candidate, target: Device) -> int:
    """Return the step of the widths: the candidate's own, or the target device's."""
    return candidate.shape.round_to or target.channel_step(activation_bits=candidate.precision.activation_bits)


def student_architecture(candidate: Candidate, context: TrialContext, *, seed: int) -> Architecture:
    """Shape the candidate: its family's widths, pruned by the teacher's importances, scaled and rounded."""
    teacher, step = weights_of(candidate, context.teacher), channel_step(candidate, context.target)
    groups: tuple[ChannelGroup, ...] = ()
    if is_pruned(candidate):
        kept = kept_of(candidate, teacher)
        groups = teacher.channel_groups(
            candidate.pruning.criterion, seed=seed, kept=kept, heads=candidate.pruning.head_ratio > 0
        )
    return shaped(
        candidate,
        context.dataset,
        step=step,
        groups=groups,
        teacher=TeacherShape(
            family=teacher.family,
            widths=teacher.base_widths,
            depths=teacher.depths,
            heads=teacher.heads,
            settings=teacher.section.settings,
        ),
    )


def is_pruned(candidate: Candidate) -> bool:
    """Return True if the candidate's widths depend on the teacher's importances."""
    return candidate.pruning.ratio > 0 or candidate.pruning.head_ratio > 0 or candidate.shape.family == PRUNED


def layers_kept_whole(candidate: Candidate, teacher: Teacher) -> tuple[str, ...]:
    """Name the layers that family `pruned` leaves whole, each group with its reason; none of other families."""
    return tuple(map(str, teacher.whole_layers)) if candidate.shape.family == PRUNED else ()


def new_student(candidate: Candidate, architecture: Architecture, teacher: Teacher, *, seed: int) -> nn.Module:
    """Build the network on the CPU, with weights drawn by `seed` or inherited from the teacher."""
    seed_all(seed)
    if candidate.pruning.init == "inherit":
        inherited = _inherited(candidate, architecture, weights_of(candidate, teacher), seed=seed)
        return _with_points(inherited, candidate, teacher)
    return fresh_student(candidate, architecture, teacher)


def weights_of(candidate: Candidate, teacher: Teacher) -> Teacher:
    """Return the teacher whose weights and importances a candidate takes: pretrained ones if it is task-agnostic."""
    wanted = candidate.pruning.init == "inherit" and candidate.teaching.teacher == "task_agnostic"
    return pretrained(teacher) if wanted else teacher


def fresh_student(candidate: Candidate, architecture: Architecture, teacher: Teacher) -> nn.Module:
    """Build a network with initial weights from torch's random state."""
    return _with_points(teacher.build(architecture), candidate, teacher)


def _with_points(network: nn.Module, candidate: Candidate, teacher: Teacher) -> nn.Module:
    data = teacher.dataset.at(candidate.data_size)
    return with_points(network, candidate, data.example, watched=teacher.section.features)


def with_points(network: nn.Module, candidate: Candidate, example: Batch, *, watched: Sequence[str] = ()) -> nn.Module:
    """Give a student of the user's own module activation points if its activations are quantized.

    example: inputs of two or more samples. watched: see `with_activation_points`.
    """
    if candidate.shape.family != PRUNED or candidate.precision.activation_bits == 32:
        return network
    return with_activation_points(network, example, watched=watched)


def fresh_networks(make: Callable[[], nn.Module], count: int, *, seed: int) -> list[nn.Module]:
    """Make `count` networks next to a student of seed `seed`, each from its own seed; the random state is restored."""
    networks: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        for number in range(count):
            torch.manual_seed((seed + 1 + number) % 2**32)
            networks.append(make())
    return networks


def shaped(
    candidate: Candidate, dataset: Dataset, *, step: int, groups: tuple[ChannelGroup, ...], teacher: TeacherShape
) -> Architecture:
    """Shape the candidate by given channel groups; a student of the teacher's family starts from the teacher's widths.

    step: widths are multiples of it. groups: empty if nothing is pruned.
    """
    dataset = dataset.at(candidate.data_size)
    candidate = with_open_settings(candidate, teacher)
    require_shape(candidate, teacher)
    shape, pruning = candidate.shape, candidate.pruning
    fractions: tuple[float, ...] = ()
    if groups:
        fractions = surviving_fractions(
            groups,
            pruning.ratio,
            ranking=pruning.ranking,
            min_channels=pruning.min_channels,
            head_ratio=pruning.head_ratio,
            min_heads=pruning.min_heads,
        )
    layer_heads: tuple[int, ...] = ()
    if shape.family == PRUNED:
        widths = pruned_widths(groups, fractions, width_multiplier=shape.width_multiplier, step=step)
    else:
        widths, layer_heads = _family_widths(candidate, groups, fractions, teacher, step=step)
    architecture = Architecture(
        family=shape.family,
        signature=dataset.task.signature,
        normalisation=dataset.normalisation,
        depths=shape.depths,
        widths=widths,
        settings=shape.settings,
        factorization=shape.factorization,
        rank_fraction=shape.rank_fraction,
        layer_heads=layer_heads,
    )
    return architecture if shape.family == PRUNED else FAMILIES[shape.family].complete(architecture)


def _family_widths(
    candidate: Candidate,
    groups: tuple[ChannelGroup, ...],
    fractions: tuple[float, ...],
    teacher: TeacherShape,
    *,
    step: int,
) -> tuple[tuple[Width, ...], tuple[int, ...]]:
    """Widths of the layers with weights of their own, and the heads of each such attention if heads are removed."""
    shape, pruning = candidate.shape, candidate.pruning
    family, same = FAMILIES[shape.family], shape.family == teacher.family
    layers = family.layers(shape.depths, teacher.widths if same else family.base_widths, shape.settings)
    heads = family.multiples([layer for layer, _ in layers], shape.settings)
    survivors = student_fractions(layers, groups=groups, fractions=fractions, same_family=same)
    whole = heads if pruning.head_ratio > 0 else ()
    widths = student_widths(
        layers,
        [1.0 if layer in whole else survivors[layer] for layer, _ in layers],
        width_multiplier=shape.width_multiplier,
        step=step,
        multiples=heads,
    )
    if pruning.init == "inherit":
        theirs = family.layers(shape.depths, teacher.widths, teacher.settings or shape.settings)
        require_inheritable(candidate, widths, theirs, heads, teacher, step=step)
    layer_heads: tuple[int, ...] = ()
    if pruning.head_ratio > 0:
        widths, layer_heads = whole_heads(
            widths,
            {layer: survivors[layer] for layer in heads},
            heads=next(iter(heads.values())),
            min_heads=pruning.min_heads,
        )
    own = [not family.repeats(layer, shape.settings) for layer in heads]
    distinct = tuple(width for width in widths if not family.repeats(width.layer, shape.settings))
    return distinct, tuple(itertools.compress(layer_heads, own))


def kept_of(candidate: Candidate, teacher: Teacher) -> Kept | None:
    """Blocks of the teacher with a counterpart in the student; None if the student has them all."""
    if candidate.shape.family != teacher.family:
        return None
    return teacher.kept_blocks(candidate.shape.depths, candidate.pruning.kept_blocks)


def _inherited(candidate: Candidate, architecture: Architecture, teacher: Teacher, *, seed: int) -> nn.Module:
    """Cut the teacher to the student's shape and keep the remaining weights."""
    kept, shape, pruning = kept_of(candidate, teacher), candidate.shape, candidate.pruning
    groups = teacher.channel_groups(pruning.criterion, seed=seed, kept=kept, heads=pruning.head_ratio > 0)
    free = {width.layer: width.channels for width in architecture.widths}
    keep = most_important(groups, lambda group: next(free[layer] for layer in group.layers if layer in free))
    cut = cut_network(teacher.shortened(kept), teacher.dataset.example, keep)
    keep_tokens_(cut, architecture.signature, teacher.dataset.task.signature)
    student: nn.Module = cut
    if shape.family != PRUNED:
        student = teacher.build(replace(architecture, factorization="none", rank_fraction=1.0))
        load_inherited_(student, cut)
    if shape.factorization != "none":
        factorise_(student, rank_fraction=shape.rank_fraction, kind=shape.factorization)
    return student
