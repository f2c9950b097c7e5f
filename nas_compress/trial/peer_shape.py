"""Peers of a student in mutual learning: their shape and multiply-adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nas_compress.devices.protocol import Device
from nas_compress.errors import RequestError
from nas_compress.models.families import FAMILIES
from nas_compress.models.macs import count_macs
from nas_compress.trial.context import TrialContext
from nas_compress.trial.shape import channel_step
from nas_compress.trial.validity import CheckedCandidate
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import PRUNED, Candidate, cross_entropy
from nas_compress.values.family_settings import family_settings
from nas_compress.values.teaching import Teaching


def peer_of(candidate: Candidate, target: Device) -> Candidate:
    """Describe the candidate's peers as a candidate: a float network with fresh weights.

    A peer has the student's pruning and width step. A peer of another family has its family's default settings.
    """
    teaching = candidate.teaching
    family = teaching.peer_family or candidate.shape.family
    same = family == candidate.shape.family
    base_depths = candidate.shape.depths if same else () if family == PRUNED else FAMILIES[family].base_depths
    float32 = candidate.in_float32(channel_step(candidate, target))
    shape = replace(
        float32.shape,
        family=family,
        depths=base_depths if teaching.peer_depths is None else teaching.peer_depths,
        width_multiplier=candidate.shape.width_multiplier * (teaching.peer_width or 1.0),
        settings=candidate.shape.settings if same else family_settings(family, {}),
    )
    pruning = replace(candidate.pruning, init="scratch")
    if not same:  # blocks and heads are counted by family
        pruning = replace(pruning, kept_blocks="first", head_ratio=0.0, min_heads=1)
    return replace(float32, shape=shape, pruning=pruning, losses=cross_entropy(), teaching=Teaching())


def peer_shape(candidate: Candidate, target: Device, shape: Callable[[Candidate], Architecture]) -> Architecture:
    """Shape the candidate's peers with `shape`; RequestError if they cannot be shaped."""
    try:
        return shape(peer_of(candidate, target))
    except RequestError as error:
        raise RequestError(f"a peer in mutual learning: {error}") from error


def macs_together(checked: CheckedCandidate, macs: int, context: TrialContext) -> int:
    """Multiply-adds of one sample through all networks of the trial. macs: of the student."""
    teaching = checked.candidate.teaching
    if teaching.scheme == "joint":
        return macs + context.teacher_macs
    if checked.peer is None:
        return macs * teaching.trainings
    peer = context.teacher.build(checked.peer)
    return macs + (teaching.peers or 1) * count_macs(peer, context.dataset.train.first(1).inputs)
