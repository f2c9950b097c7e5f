"""Views drawn by seed: random transforms and mixtures of samples as numbered views.

View v of a sample is a fixed function of the training split, the seed and v. Nothing of a view is stored: its random
numbers are drawn again from the seed, and its inputs are computed batch by batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nas_compress.data.augment.mixing import Mixing, Pairs
from nas_compress.data.augment.protocol import Augmentation, Views
from nas_compress.data.augment.sample_blocks import Blocks, block_seed
from nas_compress.data.augment.transform_protocol import Transform, like
from nas_compress.data.augment.user_function import BLOCK, UserFunction
from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Batch, chosen, count, device_of, zeros
from nas_compress.tasks.task import Task
from nas_compress.values.signature import TensorSpec

FOR_MEAN = 512
"""Samples for the mean of each channel, spread over the split."""

KEPT_BYTES = 2**28
"""Changed samples that are kept in an epoch that draws with repetition; with more, its order is one of parts."""


@dataclass(frozen=True, kw_only=True)
class DrawnViews(Augmentation):
    """Views of samples by random transforms and a mixture, in this order. Epoch e of a training has view e mod `views`.

    seed: of all random numbers; those of view v are drawn from (seed, v).
    task: mixes the targets of mixed samples.
    function: of the user, called before all transforms on blocks of samples. The blocks are drawn for each view; an
    epoch takes them in random order, and samples are mixed with others of their block.
    """

    views: int
    seed: int
    transforms: tuple[Transform, ...]
    mixing: Mixing | None
    task: Task
    function: UserFunction | None = None

    def __post_init__(self) -> None:
        if self.views < 1:
            raise RequestError(f"views >= 1 must hold, but got views={self.views}")

    @property
    def count(self) -> int:
        """Number of views."""
        return self.views

    @property
    def identity(self) -> str:
        """All settings."""
        own = "" if self.function is None else f" {self.function.identity}"
        return f"drawn {self.views} {self.seed} {self.transforms} {self.mixing}{own}"

    @property
    def mixes(self) -> bool:
        """True with a mixture."""
        return self.mixing is not None

    def check(self, inputs: tuple[TensorSpec, ...]) -> None:
        """Raise RequestError unless every transform takes the inputs and the task's targets can be mixed."""
        for transform in self.transforms:
            transform.check(inputs)
        if self.mixing is not None:
            self.mixing.check(inputs)
            none = zeros(self.task.targets, 1)
            self.task.mixed(none, none, torch.ones(1))

    def over(self, inputs: Batch) -> Views:
        """Compute the mean of each channel."""
        return _Drawn(inputs=inputs, augmentation=self)

    def view_of(self, epoch: int) -> int:
        """Return the epoch's view."""
        return epoch % self.views


@dataclass(frozen=True, kw_only=True, eq=False)
class _Draws:
    """Random numbers of all samples in one view.

    blocks: samples in the order of their blocks, for a function of the user.
    """

    view: int
    numbers: tuple[Tensor, ...]
    pairs: Pairs | None
    blocks: Blocks | None


class _Drawn(Views):
    def __init__(self, *, inputs: Batch, augmentation: DrawnViews) -> None:
        self._inputs, self._augmentation = inputs, augmentation
        self._means = _channel_means(inputs)
        self._last: _Draws | None = None
        self._changed: dict[tuple[int, int], dict[str, Tensor]] = {}
        self._kept = 0
        """Blocks that are kept for later batches."""

    def batch(self, index: Tensor, view: int) -> Batch:
        """Return the inputs of the samples at `index` in one view."""
        draws, mixing = self._draws(view), self._augmentation.mixing
        own = self._transformed(index, draws)
        if mixing is None or draws.pairs is None:
            return own
        pairs = draws.pairs.rows(index)
        return mixing.inputs(own, self._transformed(pairs.partner, draws), pairs)

    def targets(self, targets: Batch, index: Tensor, view: int) -> Batch:
        """Return the targets of the samples at `index`, mixed like their inputs."""
        mixing, pairs = self._augmentation.mixing, self._draws(view).pairs
        own = chosen(targets, index)
        if mixing is None or pairs is None:
            return own
        pairs = pairs.rows(index)
        shares = mixing.shares(self._inputs, pairs)
        return self._augmentation.task.mixed(own, chosen(targets, pairs.partner), shares)

    def order(self, samples: int, view: int | None, shuffle: torch.Generator | None) -> Tensor:
        """Return whole blocks in random order, if there are blocks."""
        if self._augmentation.function is None or view is None:
            return super().order(samples, view, shuffle)
        blocks = self._draws(view).blocks
        return super().order(samples, view, shuffle) if blocks is None else blocks.shuffled(shuffle)

    def arranged(self, drawn: Tensor, view: int | None, shuffle: torch.Generator) -> Tensor:
        """Return the order in parts whose blocks can be kept, if there are blocks; each is then changed once."""
        blocks = None if view is None else self._draws(view).blocks
        if blocks is None:
            return drawn
        of_block = BLOCK * sum(each[:1].numel() * each.element_size() for each in self._inputs.values())
        self._kept = max(1, KEPT_BYTES // max(1, of_block))
        return blocks.gathered(drawn, at_once=self._kept, shuffle=shuffle)

    def _source(self, index: Tensor, draws: _Draws) -> dict[str, Tensor]:
        """Return the samples at an index, changed by the function of the user."""
        function, blocks = self._augmentation.function, draws.blocks
        if function is None or blocks is None:
            return chosen(self._inputs, index)
        place = blocks.place[index]
        numbers, of_sample = torch.unique(place // BLOCK, return_inverse=True)
        # a block at the end of one batch is at the beginning of the next one
        changed: dict[tuple[int, int], dict[str, Tensor]] = {}
        for number in numbers.tolist():
            key = (draws.view, number)
            changed[key] = self._changed.get(key) or function(
                chosen(self._inputs, blocks.members(number)), block_seed(self._augmentation.seed, *key)
            )
        before = [key for key in self._changed if key[0] == draws.view and key not in changed]
        room = max(0, self._kept - len(changed))
        older = {key: self._changed[key] for key in before[len(before) - min(room, len(before)) :]}
        self._changed = older | changed
        rows = [place[of_sample == number] % BLOCK for number in range(len(numbers))]
        back = of_sample.argsort(stable=True).argsort()
        return {
            name: torch.cat(
                [block[name].index_select(0, row) for block, row in zip(changed.values(), rows, strict=True)]
            ).index_select(0, back)
            for name in self._inputs
        }

    def _transformed(self, index: Tensor, draws: _Draws) -> dict[str, Tensor]:
        batch = self._source(index, draws)
        for transform, table in zip(self._augmentation.transforms, draws.numbers, strict=True):
            numbers = table[index].double()
            batch = {name: transform.apply(values, numbers, self._means[name]) for name, values in batch.items()}
        return batch

    def _draws(self, view: int) -> _Draws:
        """Draw the numbers of a view, unless it is the last one."""
        if self._last is None or self._last.view != view:
            augmentation, samples, device = self._augmentation, count(self._inputs), device_of(self._inputs)
            if not 0 <= view < augmentation.views:
                raise RequestError(f"0 <= view < {augmentation.views} must hold, but got view={view}")
            random = np.random.default_rng([augmentation.seed, view])
            numbers = [
                torch.from_numpy(random.random((samples, transform.numbers), dtype=np.float32)).to(device)
                for transform in augmentation.transforms
            ]
            pairs = None if augmentation.mixing is None else augmentation.mixing.draw(samples, random).to(device)
            blocks = None
            if augmentation.function is not None:
                blocks = Blocks(order=torch.from_numpy(random.permutation(samples)).to(device))
                pairs = None if pairs is None else replace(pairs, partner=blocks.next)
            self._last = _Draws(view=view, numbers=tuple(numbers), pairs=pairs, blocks=blocks)
        return self._last


def _channel_means(inputs: Batch) -> dict[str, Tensor]:
    """Return the mean of each channel, (1, C, 1, ...), in the type of the input."""
    samples = count(inputs)
    index = torch.linspace(0, samples - 1, min(samples, FOR_MEAN), device=device_of(inputs)).long()
    return {
        name: like(torch.stack([_of_channels(sample) for sample in values]).mean(dim=0), values.dtype).reshape(
            1, -1, *(1,) * (values.ndim - 2)
        )
        for name, values in chosen(inputs, index).items()
    }


def _of_channels(sample: Tensor) -> Tensor:
    """Return the mean of each channel of one sample, float64 (C,)."""
    return sample.double().reshape(len(sample) if sample.ndim else 1, -1).mean(dim=1)
