"""Windows of long recordings of sensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import RequestError


def sliding_windows(
    recordings: Sequence[NDArray[Any]], labels: Sequence[Any], *, window: int, stride: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Cut recordings into windows (N, C, window), with a label and the number of the recording for each.

    recordings: each (C, steps), of one type and number of channels. labels: of each recording, one value or one for
    each step, (steps,). A window whose steps have several labels is left out, and so are the steps behind the last
    window. stride: steps from one window to the next.

    The numbers of the recordings are `groups`: windows that overlap, or that one person or machine made, must not be in
    two splits. Cut one long recording into several parts before.
    RequestError if the recordings do not fit together or none has a window.

    >>> inputs, labels, groups = sliding_windows([np.arange(12).reshape(2, 6)], ["walk"], window=4, stride=2)
    >>> inputs[1].tolist(), labels.tolist(), groups.tolist()
    ([[2, 3, 4, 5], [8, 9, 10, 11]], ['walk', 'walk'], [0, 0])
    """
    if window < 1 or stride < 1:
        raise RequestError(f"window >= 1 and stride >= 1 must hold, but got window={window}, stride={stride}")
    if len(recordings) != len(labels):
        raise RequestError(f"each recording must have labels, but got {len(labels)} for {len(recordings)} recordings")
    inputs: list[NDArray[Any]] = []
    classes: list[Any] = []
    groups: list[int] = []
    for number, (recording, given) in enumerate(zip(recordings, labels, strict=True)):
        first = recordings[0]
        if recording.ndim != 2 or len(recording) != len(first) or recording.dtype != first.dtype:
            rule = f"recordings must be (C, steps) of one type, {first.dtype} with {len(first)} channels as the first"
            raise RequestError(f"{rule}, but recording {number} is {recording.dtype} {recording.shape}")
        steps = recording.shape[1]
        of_steps = np.broadcast_to(np.asarray(given), steps) if np.ndim(given) == 0 else np.asarray(given)
        if of_steps.shape != (steps,):
            rule = f"a recording must have one label, or one for each of its {steps} steps"
            raise RequestError(f"{rule}, but recording {number} has {of_steps.shape}")
        for start in range(0, steps - window + 1, stride):
            inside = of_steps[start : start + window]
            if (inside == inside[0]).all():
                inputs.append(recording[:, start : start + window])
                classes.append(inside[0])
                groups.append(number)
    if not inputs:
        raise RequestError(f"a recording must have {window} steps (window) of one label or more, but none has")
    return np.stack(inputs), np.array(classes), np.array(groups, dtype=np.int64)
