"""Transfer sets of texts: masked, replaced and cut word sequences, for the answers of a teacher (Tang et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from nas_compress.data.augment.protocol import Augmentation, NoAugmentation, Views
from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Batch
from nas_compress.values.signature import TensorSpec
from nas_compress.values.text.word_pieces import FIRST, LAST, UNKNOWN

TRANSFER_TEXT = "transfer_text"
"""Value of `data.augment`."""

VIEWS = 20
"""Number of views by default, as in the paper."""

MASKED, REPLACED, CUT, LONGEST_CUT = 0.1, 0.1, 0.25, 5
"""Probability of a word to be masked, of another one to be replaced, of a text to be cut to some words, and the most of
these words. The paper's values."""

UNKNOWN_ID = 1
"""The id of a masked word in vocabularies of this package, and of ids without a vocabulary."""


@dataclass(frozen=True, kw_only=True)
class TransferText(Augmentation):
    """Views of token ids. View 0 is the text itself; all others differ from it by chance (arXiv 1903.12136).

    Words are masked by the unknown piece or replaced by a random word of the training texts, and a quarter of the texts
    are cut to 1 to 5 neighbouring words. The paper replaces words by others of the same part of speech. Views depend on
    the sample, the view and the seed only. They are meant for answers of a teacher: trainings on labels alone have the
    texts as they are.

    views: of each text, the text itself included. inside: for each id, True if it continues a word. still: for each id,
    True if it is a mark such as `[CLS]`, which stays at its place; None without marks. unknown: id of a masked word.
    """

    views: int
    seed: int
    inside: Tensor = field(compare=False, repr=False)
    still: Tensor | None = field(default=None, compare=False, repr=False)
    unknown: int = UNKNOWN_ID

    def __post_init__(self) -> None:
        if self.views < 2:
            raise RequestError(f"views >= 2 must hold for augment = {TRANSFER_TEXT!r}, but got views={self.views}")

    @property
    def count(self) -> int:
        """Number of views."""
        return self.views

    @property
    def identity(self) -> str:
        """All settings."""
        return f"{TRANSFER_TEXT} {self.views} {self.seed} {MASKED} {REPLACED} {CUT} {LONGEST_CUT}"

    @property
    def for_labels(self) -> Augmentation:
        """The texts as they are."""
        return NoAugmentation()

    def check(self, inputs: tuple[TensorSpec, ...]) -> None:
        """Raise RequestError unless the only input is token ids."""
        if len(inputs) == 1 and inputs[0].words is not None:
            rule = f"augment = {TRANSFER_TEXT!r} needs word pieces"
            raise RequestError(f"{rule}, but got bytes of {inputs[0].words.buckets} hash_buckets; leave one out")
        if len(inputs) != 1 or inputs[0].values is None:
            found = ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in inputs)
            raise RequestError(f"augment = {TRANSFER_TEXT!r} needs one input of token ids (texts), but got {found}")

    def over(self, inputs: Batch) -> Views:
        """Prepare the views of the ids."""
        ((name, ids),) = inputs.items()
        return _Changed(name=name, ids=ids, augmentation=self)

    def view_of(self, epoch: int) -> int:
        """Return the epoch's view."""
        return epoch % self.views


def transfer_text(task_inputs: tuple[TensorSpec, ...], *, views: int | None, seed: int) -> TransferText:
    """Return the views of texts with the vocabulary of the only input."""
    spec = task_inputs[0]
    pieces = () if spec.pieces is None else spec.pieces.pieces
    inside = torch.zeros(max(spec.values or 1, len(pieces)), dtype=torch.bool)
    inside[[number for number, piece in enumerate(pieces) if piece.startswith("##")]] = True
    still = torch.zeros_like(inside)
    if spec.pieces is not None and spec.pieces.framed:
        still[[pieces.index(mark) for mark in (FIRST, LAST)]] = True
    return TransferText(
        views=VIEWS if views is None else views,
        seed=seed,
        inside=inside,
        still=still,
        unknown=pieces.index(UNKNOWN) if UNKNOWN in pieces else UNKNOWN_ID,
    )


class _Changed(Views):
    def __init__(self, *, name: str, ids: Tensor, augmentation: TransferText) -> None:
        self._name, self._ids, self._augmentation = name, ids, augmentation

    def batch(self, index: Tensor, view: int) -> Batch:
        """Return the ids of the samples at `index` in one view."""
        if not 0 <= view < self._augmentation.views:
            raise RequestError(f"0 <= view < {self._augmentation.views} must hold, but got view={view}")
        ids = self._ids[index]
        return {self._name: ids if view == 0 else self._changed(ids, index, view)}

    def _changed(self, ids: Tensor, index: Tensor, view: int) -> Tensor:
        columns = torch.arange(ids.shape[1], device=ids.device)
        inside = self._augmentation.inside.to(ids.device)
        is_token = ids != 0
        mark = self._augmentation.still
        still = torch.zeros_like(inside) if mark is None else mark.to(ids.device)
        stays = still[ids.long()]
        begins = is_token & ~inside[ids.long()]
        begins[:, 0] = True  # a text that was cut inside a word
        begins &= ~stays
        word = begins.cumsum(dim=1) - 1
        words = word.where(is_token, -1).amax(dim=1, keepdim=True) + 1

        # one number for each word: all its pieces are masked or replaced together
        chance = self._uniform(index[:, None], word, view, 0)
        masked = (chance < MASKED) & ~stays
        replaced = (chance >= MASKED) & (chance < MASKED + REPLACED) & ~stays
        row = (self._uniform(index[:, None], word, view, 1) * len(self._ids)).long()
        place = (self._uniform(index[:, None], word, view, 2) * ids.shape[1]).long()
        other = self._ids[row.flatten()].gather(1, place.flatten()[:, None]).reshape(ids.shape)
        usable = (other != 0) & ~inside[other.long()] & ~still[other.long()]
        replaced &= usable
        changed = torch.where(
            masked, torch.full_like(ids, self._augmentation.unknown), torch.where(replaced, other, ids)
        )
        kept = is_token & (begins | ~(masked | replaced))  # of a changed word, its first piece only

        # some neighbouring words
        one = index[:, None]
        cut = self._uniform(one, torch.zeros_like(one), view, 3) < CUT
        length = 1 + (self._uniform(one, torch.zeros_like(one), view, 4) * words.clamp(max=LONGEST_CUT)).long()
        start = (self._uniform(one, torch.zeros_like(one), view, 5) * (words - length + 1)).long()
        kept &= ~cut | ((word >= start) & (word < start + length)) | stays

        # the remaining pieces move to the front
        order = (~kept).to(torch.int8).argsort(dim=1, stable=True)
        return changed.gather(1, order).masked_fill(columns >= kept.sum(dim=1, keepdim=True), 0)

    def _uniform(self, sample: Tensor, place: Tensor, view: int, kind: int) -> Tensor:
        """Return numbers in [0, 1) by a hash of sample, place, view and kind, float64."""
        key = ((sample.long() * 1_000_003 + place.long()) * 1_009 + view) * 17 + kind + self._augmentation.seed * 7_919
        return (_mixed(key) & (2**52 - 1)).double() / 2**52


def _mixed(values: Tensor) -> Tensor:
    """Mix the bits of int64 numbers (the finaliser of splitmix64; products wrap)."""
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        values = (values ^ _right(values, shift)) * factor
    mixed: Tensor = values ^ _right(values, 31)
    return mixed


def _right(values: Tensor, shift: int) -> Tensor:
    """Shift to the right with zeros."""
    shifted: Tensor = (values >> shift) & (2 ** (64 - shift) - 1)
    return shifted
