"""Rules about the candidates that may be tried. Each raises RequestError if it is broken."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas_compress.errors import RequestError, require_known
from nas_compress.losses.table import TERMS, check_terms, needs_teacher
from nas_compress.models.families import FAMILIES, family_named
from nas_compress.pruning.depth import KEPT_BLOCKS
from nas_compress.pruning.importance import CRITERIA
from nas_compress.pruning.ranking import RANKINGS
from nas_compress.values.architecture import Width
from nas_compress.values.candidate import PRUNED, Candidate, Teaching


def check_candidate(candidate: Candidate) -> None:
    """Require known names and values that go together."""
    require_known("a family", candidate.shape.family, [*FAMILIES, PRUNED])
    if candidate.teaching.peer_family is not None:
        require_known("peer_family", candidate.teaching.peer_family, [*FAMILIES, PRUNED])
    require_known("a pruning criterion", candidate.pruning.criterion, CRITERIA)
    require_known("a pruning ranking", candidate.pruning.ranking, RANKINGS)
    require_known("kept_blocks", candidate.pruning.kept_blocks, KEPT_BLOCKS)
    check_terms(candidate.losses)
    if candidate.shape.family != PRUNED:
        _require_attention(candidate)
    settings = candidate.shape.settings
    if candidate.pruning.init == "inherit" and settings.shares_weights:
        raise RequestError(f"init='inherit' needs layers with weights of their own, but got {settings}")
    if settings != settings.without_teacher() and not needs_teacher(candidate.losses):
        wanted = " and ".join(settings.from_teacher)
        names = ", ".join(term.name for term in candidate.losses)
        raise RequestError(f"{wanted} needs a loss that reads the teacher's answers, but got {names}")
    if candidate.teaching.teacher == "mutual" and all(TERMS[term.name].needs_teacher for term in candidate.losses):
        raise RequestError(
            "mutual learning needs a term on labels, which its networks cannot learn from each other, "
            f"but got {', '.join(term.name for term in candidate.losses)}"
        )
    if candidate.teaching.teacher == "apprentice" and not candidate.precision.quantization.is_trained:
        raise RequestError(
            "teaching.teacher='apprentice' needs a student that learns under rounding "
            f"(quantization.method 'lsq' or 'ste'), but got method={candidate.precision.quantization.method!r}"
        )
    if candidate.teaching != Teaching() and not needs_teacher(candidate.losses):
        raise RequestError(
            f"teaching needs a term on the teacher among the losses ({candidate.teaching.teacher!r} is asked for), "
            f"but got {', '.join(term.name for term in candidate.losses)}"
        )


def _require_attention(candidate: Candidate) -> None:
    if candidate.pruning.head_ratio > 0 and not FAMILIES[candidate.shape.family].has_attention:
        known = ", ".join(name for name, family in FAMILIES.items() if family.has_attention)
        raise RequestError(
            f"head_ratio needs a family with attention ({known}), but got head_ratio={candidate.pruning.head_ratio} "
            f"for family {candidate.shape.family!r}"
        )


@dataclass(frozen=True, kw_only=True)
class TeacherShape:
    """The teacher's shape as far as it limits its students.

    family: None for a module of the user. widths: of its stages. heads: of each attention, None without attention.
    """

    family: str | None
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: int | None = None


def require_shape(candidate: Candidate, teacher: TeacherShape) -> None:
    """Require depths that fit the candidate's family, and the teacher's family if the candidate depends on it."""
    shape, pruning = candidate.shape, candidate.pruning
    same = shape.family == teacher.family
    if pruning.kept_blocks != "first" and (not same or shape.family == PRUNED):
        raise RequestError(
            f"kept_blocks={pruning.kept_blocks!r} needs a student of the teacher's family, {teacher.family}, "
            f"but got {shape.family}"
        )
    if shape.family == PRUNED:
        return
    stages = len(teacher.widths if same else family_named(shape.family).base_widths)
    if len(shape.depths) != stages:
        raise RequestError(
            f"depths must have one entry per stage of {shape.family} ({stages}), but got depths={shape.depths}"
        )
    if pruning.init != "inherit":
        return
    deeper = any(map(operator.gt, shape.depths, teacher.depths))
    if not same or deeper or len(shape.depths) != len(teacher.depths):
        raise RequestError(
            "init='inherit' needs a student of the teacher's family and at most its depths, "
            f"{teacher.family} {teacher.depths}, but got {shape.family} {shape.depths}"
        )


def require_inheritable(
    candidate: Candidate,
    widths: Sequence[Width],
    layers: Sequence[tuple[str, int]],
    heads: Mapping[str, int],
    teacher: TeacherShape,
    *,
    step: int,
) -> None:
    """Require that the teacher has all weights that the candidate inherits.

    widths: before whole heads are removed, multiples of `step`. layers: the teacher's (path, channels). heads: number
    of heads of each attention, by layer.
    """
    if candidate.pruning.init != "inherit":
        return
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
        if layer in heads and teacher.heads is not None and heads[layer] != teacher.heads:
            raise RequestError(
                f"init='inherit' needs the teacher's {teacher.heads} heads in attention, but got heads={heads[layer]}"
            )
