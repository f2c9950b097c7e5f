"""Peers of a student in mutual learning: shape and fresh weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from nas_compress.devices.protocol import Device
from nas_compress.errors import RequestError
from nas_compress.models.families import FAMILIES
from nas_compress.models.macs import count_macs
from nas_compress.trial.context import TrialContext
from nas_compress.trial.shape import channel_step, student_architecture
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


def macs_together(candidate: Candidate, macs: int, context: TrialContext, *, seed: int) -> int:
    """Multiply-adds of one sample through all networks of the trial. macs: of the student."""
    teaching = candidate.teaching
    if teaching.scheme == "joint":
        return macs + context.teacher_macs
    if teaching.teacher != "mutual":
        return macs * teaching.trainings
    shape = _shape(candidate, context, seed)
    peer = context.teacher.build(shape)
    return macs + (teaching.peers or 1) * count_macs(peer, context.dataset.train.first(1).inputs)


def make_peers(candidate: Candidate, context: TrialContext, *, seed: int) -> list[nn.Module]:
    """Build the student's peers, each from its own seed; torch's random state is restored."""
    shape = _shape(candidate, context, seed)
    peers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        for number in range(candidate.teaching.peers or 1):
            torch.manual_seed((seed + 1 + number) % 2**32)
            peers.append(context.teacher.build(shape).to(context.device))
    return peers


def fresh_teacher(context: TrialContext, *, seed: int) -> nn.Module:
    """Build an untrained network of the teacher's shape on the training device, for scheme `joint`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((seed + 1) % 2**32)
        return context.teacher.make().to(context.device)


def _shape(candidate: Candidate, context: TrialContext, seed: int) -> Architecture:
    return peer_shape(candidate, context.target, lambda peer: student_architecture(peer, context, seed=seed))
