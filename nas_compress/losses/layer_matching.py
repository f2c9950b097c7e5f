"""Pairs of student and teacher features, brought to equal shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.models.features import BEFORE_STAGES, Observation
from nas_compress.models.token_padding import masked_mean


def by_relative_depth(student: Sequence[str], teacher: Sequence[str]) -> list[tuple[str, str]]:
    """Pair each name of the student with the teacher's at the same fraction of depth.

    Both are in forward order and counted from 1.

    >>> by_relative_depth(["a", "b"], ["A", "B", "C", "D"])
    [('a', 'B'), ('b', 'D')]
    """
    return [
        (name, teacher[max(1, round(number * len(teacher) / len(student))) - 1])
        for number, name in enumerate(student, start=1)
    ]


def paired(student: Sequence[str], teacher: Sequence[str], last: float, loss: str) -> list[tuple[str, str]]:
    """Pair each name of the student by relative depth, or the last names of both, one to one from the end.

    Uniform pairing and the top strategy of Jiao et al. 2020, arXiv 1909.10351, sections 3.1 and 4.5.

    last: number of pairs from the end; 0: each name by relative depth. loss: name for errors.
    RequestError unless both have as many names.

    >>> paired(["a", "b"], ["A", "B", "C", "D"], 2, "hidden_state")
    [('a', 'C'), ('b', 'D')]
    """
    if last == 0:
        return by_relative_depth(student, teacher)
    most = min(len(student), len(teacher))
    if last % 1 or last > most:
        raise RequestError(
            f"last_layers of loss {loss!r} must be a whole number of at most {most}, the layers of student and teacher "
            f"({len(student)} and {len(teacher)}), but got last_layers={last:g}"
        )
    count = int(last)
    return list(zip(student[-count:], teacher[-count:], strict=True))


def stages(features: Mapping[str, Tensor]) -> list[str]:
    """Names of stages or layers, without the stem or the embedding."""
    return [name for name in features if name not in BEFORE_STAGES]


def pooled_embedding(observation: Observation) -> Tensor:
    """Last feature, averaged over its positions, without padding, if it has any: (B, channels or width), float32."""
    last = observation.features[list(observation.features)[-1]].float()
    if last.ndim == 2:
        return last
    if last.ndim == 3 and observation.mask is not None:
        return masked_mean(last, observation.mask)
    return last.mean(dim=1) if last.ndim == 3 else last.mean(dim=(2, 3))


def same_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Average maps (B, c, h, w) to the smaller of the two grids."""
    height, width = min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3])
    return _shrunk(first, height, width), _shrunk(second, height, width)


def _shrunk(maps: Tensor, height: int, width: int) -> Tensor:
    return maps if maps.shape[2:] == (height, width) else F.adaptive_avg_pool2d(maps, (height, width))


def without_padding(features: Tensor, mask: Tensor | None) -> Tensor:
    """Set features (B, tokens, width) to 0 at padding. mask: see `Observation`."""
    return features if mask is None or features.ndim != 3 else features * mask.unsqueeze(2)


@dataclass(frozen=True, kw_only=True, eq=False)
class CommonTokens:
    """Tokens of a batch that a student and a teacher both have.

    places: of these tokens in both. mask: bool (B, tokens), False at padding; None without padding.
    """

    places: slice
    mask: Tensor | None

    def mean(self, values: Tensor) -> Tensor:
        """Mean of values (B, tokens, width) over all but padding."""
        if self.mask is None:
            return values.mean()
        shares = self.mask.unsqueeze(2).to(values.dtype)
        return (values * shares).sum() / (shares.sum() * values.shape[2])

    def mean_of_pairs(self, values: Tensor) -> Tensor:
        """Mean of values (B, heads, tokens, tokens) over pairs without padding."""
        if self.mask is None:
            return values.mean()
        shares = (self.mask.unsqueeze(1) & self.mask.unsqueeze(2)).unsqueeze(1).to(values.dtype)
        return (values * shares).sum() / (shares.sum() * values.shape[1])


def common_tokens(student: Observation, teacher: Observation, loss: str) -> CommonTokens:
    """Tokens that correspond: all, or the patches if only one network has special tokens.

    Of token ids, those that both networks read. RequestError if the two cut the image into different patches.
    """
    mask = student.mask if student.mask is not None else teacher.mask
    counts = [next(iter(seen.features.values())).shape[1] for seen in (student, teacher)]
    if mask is not None:
        first = min(*counts, mask.shape[1])
        return CommonTokens(places=slice(first), mask=mask[:, :first])
    if counts[0] == counts[1]:
        return CommonTokens(places=slice(None), mask=None)
    if student.patches == teacher.patches > 0:
        return CommonTokens(places=slice(-student.patches, None), mask=None)
    raise RequestError(
        f"loss {loss!r} needs a student and a teacher that cut the image into the same patches, "
        f"but got {student.patches} and {teacher.patches}"
    )
