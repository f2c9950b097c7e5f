"""The teacher's shape, and rules about students that take layers, channels or weights from it."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nas_compress.errors import RequestError
from nas_compress.models.families import FAMILIES
from nas_compress.values.architecture import Width
from nas_compress.values.candidate import PRUNED, Candidate
from nas_compress.values.family_settings import FamilySettings


@dataclass(frozen=True, kw_only=True)
class TeacherShape:
    """The teacher's shape as far as it limits its students.

    family: None for a module of the user. widths: of its stages. heads: of each attention, None without attention.
    settings: of the family; needed for students that inherit weights.
    """

    family: str | None
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: int | None = None
    settings: FamilySettings | None = None


def require_shape(candidate: Candidate, teacher: TeacherShape) -> None:
    """Require depths of the candidate's family, and the teacher's family if the candidate depends on it."""
    shape, pruning = candidate.shape, candidate.pruning
    same = shape.family == teacher.family
    if pruning.kept_blocks != "first" and (not same or shape.family == PRUNED):
        raise RequestError(
            f"kept_blocks={pruning.kept_blocks!r} needs a student of the teacher's family, {teacher.family}, "
            f"but got {shape.family}"
        )
    if shape.family == PRUNED:
        return
    stages = len(teacher.widths if same else FAMILIES[shape.family].base_widths)
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
    if shape.depths != teacher.depths and not FAMILIES[shape.family].has_removable_blocks:
        raise RequestError(
            f"init='inherit' needs the teacher's depths, {teacher.depths}, in family {shape.family}, whose layers "
            f"cannot be left out, but got {shape.depths}"
        )
    if pruning.ratio > 0 and pruning.head_ratio > 0 and not FAMILIES[shape.family].has_narrower_stream:
        raise RequestError(
            f"init='inherit' needs pruning_ratio=0 in family {shape.family}, whose positions keep the teacher's "
            f"channels, but got {pruning.ratio:g}; head_ratio removes whole heads"
        )
    for name in shape.settings.in_weights:
        own, theirs = getattr(shape.settings, name), getattr(teacher.settings, name, None)
        if name in shape.settings.cut_in_weights and theirs is not None and own <= theirs:
            continue
        if own != theirs:
            rule = "at most the" if name in shape.settings.cut_in_weights else "the"
            raise RequestError(f"init='inherit' needs {rule} teacher's {name}={theirs!r}, but got {name}={own!r}")


def with_open_settings(candidate: Candidate, teacher: TeacherShape) -> Candidate:
    """Return a candidate that inherits weights with the teacher's values of the settings that it leaves open.

    Other candidates stay as they are; their family chooses the open ones.
    """
    own = candidate.shape.settings
    if candidate.pruning.init != "inherit" or candidate.shape.family != teacher.family or teacher.settings is None:
        return candidate
    theirs = teacher.settings.to_dict()
    filled = {name: theirs[name] for name, value in own.to_dict().items() if value is None and name in theirs}
    return replace(candidate, shape=replace(candidate.shape, settings=replace(own, **filled)))


def require_inheritable(
    candidate: Candidate,
    widths: Sequence[Width],
    layers: Sequence[tuple[str, int]],
    heads: Mapping[str, int],
    teacher: TeacherShape,
    *,
    step: int,
) -> None:
    """Require that the teacher has all inherited weights.

    widths: before whole heads are removed, multiples of `step`. layers: the teacher's (path, channels), of which the
    student may have fewer. heads: number of heads of each attention, by layer.
    """
    if candidate.pruning.init != "inherit":
        return
    for width, (layer, channels) in zip(widths, layers, strict=True):
        if width.channels > channels:
            raise RequestError(
                f"init='inherit' needs at most the teacher's {channels} channels in {layer}, "
                f"but got {width.channels} (in steps of {step}; round_to sets the step)"
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
