"""The augmentation of a study: from the keys of `[data]` to views."""

from __future__ import annotations

from dataclasses import dataclass

from nas_compress.data.augment.drawn_views import DrawnViews
from nas_compress.data.augment.images import Crop, Erase, Flip, Shift
from nas_compress.data.augment.mixing import Mixing
from nas_compress.data.augment.protocol import Augmentation
from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.data.augment.sound_masks import SoundMasks
from nas_compress.data.augment.spectrograms import SpecAugment
from nas_compress.data.augment.transform_protocol import Transform
from nas_compress.data.augment.user_function import UserFunction
from nas_compress.errors import RequestError
from nas_compress.tasks.task import Task

VIEWS = 16
"""Number of views by default."""

PER_SAMPLE_NDIM = 2
"""Most dimensions of targets without places, such as (N, labels)."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Settings of views that are drawn by seed; None for a transform that is left out.

    crop: smallest share of an image's area, see `Crop`. erase: probability of a rectangle, see `Erase`.
    spec_augment: masks on spectrograms. mixup, cutmix: alpha of the mixture, see `Mixing`.
    augment: `module:callable` of the user, see `UserFunction`. views: views of each sample, by default 16.
    """

    crop: float | None = None
    erase: float | None = None
    spec_augment: SpecAugment | None = None
    mixup: float | None = None
    cutmix: float | None = None
    augment: str | None = None
    views: int | None = None


def drawn(
    base: Augmentation, drawing: Drawing, *, task: Task, seed: int, function: UserFunction | None = None
) -> Augmentation:
    """Return views drawn by seed, or `base` if the drawing is empty.

    base: ShiftAndFlip, whose shifts and mirrors are then drawn for each sample, or NoAugmentation. function: that of
    `drawing.augment`. RequestError for settings out of range, and for `views` of a sample that never changes.
    """
    if drawing == Drawing():
        return base
    shift, flip = (base.shift, base.flip) if isinstance(base, ShiftAndFlip) else (0, False)
    candidates: tuple[Transform | None, ...] = (
        None if drawing.crop is None else Crop(least_area=drawing.crop),
        Shift(pixels=shift) if shift else None,
        Flip() if flip else None,
        None if drawing.erase is None else Erase(probability=drawing.erase),
        _masks_of(drawing.spec_augment, task),
    )
    transforms = tuple(each for each in candidates if each is not None)
    mixed = (drawing.mixup, drawing.cutmix) != (None, None)
    if not transforms and not mixed and function is None:
        raise RequestError(f"views need an augmentation, but got views={drawing.views} alone; add one or leave it out")
    return DrawnViews(
        views=VIEWS if drawing.views is None else drawing.views,
        seed=seed,
        transforms=transforms,
        mixing=Mixing(mixup=drawing.mixup, cutmix=drawing.cutmix) if mixed else None,
        task=task,
        function=function,
    )


def _masks_of(masks: SpecAugment | None, task: Task) -> Transform | None:
    """Return the masks for the task's input: on a spectrogram, or on a sound before its spectrogram is made."""
    log_mel = task.signature.inputs[0].log_mel
    return masks if masks is None or log_mel is None else SoundMasks(masks=masks, log_mel=log_mel)


def require_still_targets(augmentation: Augmentation, task: Task) -> None:
    """Raise RequestError if pixels move while the targets of each pixel stay."""
    moves = isinstance(augmentation, ShiftAndFlip) and augmentation.count > 1
    if isinstance(augmentation, DrawnViews):
        moves = any(isinstance(each, Shift | Flip | Crop) for each in augmentation.transforms)
    for spec in task.targets:
        if moves and len(spec.shape) > PER_SAMPLE_NDIM:
            raise RequestError(
                f"shift, flip and crop move pixels, but {spec.name} {spec.shape} would stay; leave them out, or return "
                "an augmentation of your own"
            )
